"""The Dockerfile: what hadolint says of it, and that its image holds what its steps need."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.gateway import gateway_process

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile"
HEALTHY = ROOT / "scripts" / "healthy.py"


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    said = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_every_file_that_is_copied_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source
        for line in DOCKERFILE.read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert copied
    assert set(copied) == kept
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.asyncio
async def test_the_health_check_tells_a_gateway_from_none(tmp_path: Path, unused_tcp_port: int) -> None:
    async def status(port: int) -> int:
        environment = {"LP_HTTPADDR": f"0.0.0.0:{port}"}
        check = await asyncio.create_subprocess_exec(sys.executable, HEALTHY, env=environment)
        return await check.wait()

    assert await status(unused_tcp_port) == 1
    async with gateway_process(tmp_path, "-orchestrators", "1") as gateway:
        assert await status(int(gateway.url.rstrip("/").rpartition(":")[2])) == 0
