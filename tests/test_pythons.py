"""Which versions of Python the tests run with: all that the system has, the image's among them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = "{}.{}".format(*sys.version_info)
PREPARE = "#!/bin/sh\n[ $1 = pythons ] && printf '%s\\n' {pythons}\n"
SAYS_WHAT = '#!/bin/sh\necho "$(basename "$0") $*"\n'


def run_ci(folder: Path, *pythons: str, image: str) -> subprocess.CompletedProcess[str]:
    """What `.ci/run` starts on a system with these versions and for an image with that one."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / "Dockerfile").write_text(
        f"FROM python:{image}-slim AS build\nRUN true\n\nFROM python:{image}-slim\n"
    )
    for name, text in (
        (".ci/run", (ROOT / ".ci" / "run").read_text()),
        ("scripts/prepare", PREPARE.format(pythons=" ".join(pythons))),
        ("scripts/lint", SAYS_WHAT),
        ("scripts/test", SAYS_WHAT),
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return subprocess.run([folder / ".ci" / "run"], capture_output=True, text=True, timeout=30, check=False)


def test_each_version_is_tested_once(tmp_path: Path) -> None:
    run = run_ci(tmp_path, OWN, "3.98", "3.99", image="3.99")
    assert (run.returncode, run.stderr) == (0, "")
    others = ["test --quick --python 3.98", "test --quick --python 3.99"]
    assert [line.strip() for line in run.stdout.splitlines()] == ["lint", "test", *others]


def test_an_image_with_a_version_that_this_system_lacks_fails_and_says_what_to_do(tmp_path: Path) -> None:
    run = run_ci(tmp_path, OWN, image="3.99")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("The image has Python 3.99, and this system has not: install it")


def test_the_versions_of_this_system_are_found() -> None:
    found = subprocess.run(
        [ROOT / "scripts" / "prepare", "pythons"], capture_output=True, text=True, timeout=60, check=True
    )
    assert OWN in found.stdout.split()


def test_the_image_is_of_one_version_that_is_supported() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    images = {line.split()[1] for line in lines if line.startswith("FROM ")}
    (image,) = images
    name, _, tag = image.partition(":")
    assert name == "python"
    assert tuple(map(int, tag.partition("-")[0].split("."))) >= (3, 11)
