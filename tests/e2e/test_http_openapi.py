"""`/openapi.json` against the daemon that serves it: it describes every answer."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from harness.gateway import gateway_process

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
EXAMPLES = 10
NOT_CALLED = "/(events|drain)$"
"""Paths whose answers end when the client goes, and the one after which no publisher is taken."""
# 503 is the described answer for a model without an orchestrator
EXPECTED = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "4xx", 503]\n'


@pytest.mark.asyncio
async def test_schemathesis_finds_nothing_that_is_not_described(tmp_path: Path) -> None:
    flags = ("-maxRequestsPerAddress", "0", "-connectTimeout", "1s")
    async with gateway_process(tmp_path, *flags) as gateway:
        (tmp_path / "schemathesis.toml").write_text(EXPECTED)
        before = await gateway.holds()
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / "schemathesis",
            *("run", gateway.url + "openapi.json", "--checks", ",".join(CHECKS)),
            *("--max-examples", str(EXAMPLES), "--phases", "coverage,fuzzing", "--seed", "1"),
            *("--generation-database", "none", "--suppress-health-check", "all", "--no-color"),
            *("--exclude-path-regex", NOT_CALLED),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
            env=os.environ
            | {
                "PYTHONWARNINGS": "ignore",
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "SCHEMATHESIS_HOOKS": "harness.openapi_bodies",
            },
        )
        said, _ = await asyncio.wait_for(process.communicate(), 150)
        assert process.returncode == 0, said.decode()[-8000:]
        assert "request failed" not in gateway.log.read_text()

        await gateway.given_back(before, after="all of it")
