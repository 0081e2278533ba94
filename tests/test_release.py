"""What `scripts/release` builds: distributions of the commit, and an SBOM of all that is pinned."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.heavy
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_release_has_distributions_their_sums_and_an_sbom_of_what_is_pinned(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts" / "release", tmp_path], check=True, timeout=550)
    files = {path.name: path for path in tmp_path.iterdir()}
    sums = dict(reversed(line.split()) for line in files.pop("SHA256SUMS").read_text().splitlines())
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}

    (wheel,) = tmp_path.glob("*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("livepeer_live_")}
    assert {name.partition("/")[0] for name in shipped} == {"gateway", "signer_client"}
    kept = subprocess.run(
        ["git", "ls-files", "gateway", "signer_client"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert {name for name in kept if not name.endswith(".md")} <= shipped
    assert len(list(tmp_path.glob("*.tar.gz"))) == 1

    (bill,) = tmp_path.glob("*.cdx.json")
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


def test_the_image_stands_on_one_base_by_its_digest() -> None:
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-\w+@sha256:[0-9a-f]{64}", bases[0])
