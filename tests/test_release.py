"""What `scripts/release` builds: distributions of the commit, and an SBOM of all that is pinned."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import aiohttp
import pytest

from harness.gateway import gateway_process
from harness.waiting import eventually
from harness.webrtc import WhipPublisher

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a release of the newest commit."""
    folder = tmp_path_factory.mktemp("release")
    subprocess.run([ROOT / "scripts" / "release", folder], check=True, timeout=550)
    return folder


@pytest.mark.heavy
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_release_has_distributions_their_sums_and_an_sbom_of_what_is_pinned(release: Path) -> None:
    files = {path.name: path for path in release.iterdir()}
    sums = dict(reversed(line.split()) for line in files.pop("SHA256SUMS").read_text().splitlines())
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}

    (wheel,) = release.glob("*.whl")
    version = wheel.name.split("-")[1]
    (changes,) = release.glob("*.changelog.md")
    told = changes.read_text()
    assert told.startswith(f"## {version}")
    assert told.count("\n## ") == 0
    assert told.rstrip() in (ROOT / "CHANGELOG.md").read_text()

    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("livepeer_live_")}
    assert {name.partition("/")[0] for name in shipped} == {"gateway", "signer_client"}
    kept = subprocess.run(
        ["git", "ls-files", "gateway", "signer_client"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert {name for name in kept if not name.endswith(".md")} <= shipped
    assert len(list(release.glob("*.tar.gz"))) == 1

    (bill,) = release.glob("*.cdx.json")
    sbom = json.loads(bill.read_text())
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == (
        "CycloneDX",
        "livepeer-live-gateway",
    )
    pinned = re.findall(
        r"^([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
    listed = {(one["name"], one["version"]): one for one in sbom["components"]}
    assert set(pinned) == set(listed)
    assert all(one["externalReferences"][0]["hashes"] for one in listed.values())


@pytest.mark.heavy
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.asyncio
async def test_its_wheel_shows_a_picture_on_a_devnet_from_an_environment_of_its_own(
    release: Path, tmp_path: Path
) -> None:
    uv, (wheel,) = Path(sys.executable).parent / "uv", release.glob("*.whl")
    venv = tmp_path / "venv"
    install = (uv, "pip", "install", "--quiet", "--python", venv / "bin" / "python")
    for command in (
        (uv, "venv", "--quiet", "--python", sys.executable, venv),
        (*install, "--require-hashes", "-r", ROOT / "requirements.lock"),
        (*install, "--no-deps", wheel),
    ):
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=400)
    program = (venv / "bin" / "livepeer-gateway",)
    async with (
        aiohttp.ClientSession() as http,
        gateway_process(tmp_path, program=program) as gateway,
        WhipPublisher(http, gateway.live("cam/whip")),
    ):

        async def is_live() -> bool:
            return bool((await gateway.status("cam"))["state"] == "live")

        await eventually(is_live, what="the first picture")


def test_the_image_stands_on_one_base_by_its_digest() -> None:
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-\w+@sha256:[0-9a-f]{64}", bases[0])
