"""The Dockerfile: hadolint has no complaint, and its steps build a gateway that runs."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness.gateway import gateway_process
from harness.waiting import within

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


@pytest.mark.heavy
@pytest.mark.asyncio
async def test_the_health_check_tells_a_gateway_from_none(tmp_path: Path, unused_tcp_port: int) -> None:
    async def status(port: int) -> int:
        environment = {"LP_HTTPADDR": f"0.0.0.0:{port}"}
        check = await asyncio.create_subprocess_exec(sys.executable, HEALTHY, env=environment)
        return await within(check.wait())

    assert await status(unused_tcp_port) == 1
    async with gateway_process(tmp_path) as gateway:
        assert await status(int(gateway.url.rstrip("/").rpartition(":")[2])) == 0


class Image:
    """Runs the Dockerfile's steps in a fresh Debian root, without a container engine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = "/"
        self.user = "0:0"
        self.environment: dict[str, str] = {}
        self.entrypoint: list[str] = []
        self.health: list[str] = []

    def bootstrap(self) -> None:
        """Make a minimal root, with Debian's Python instead of Docker's."""
        release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines())
        sources = [*Path("/etc/apt/sources.list.d").glob("*.sources")] or [Path("/etc/apt/sources.list")]
        packages = "--include=python3,python3-venv,ca-certificates"
        suite = release["VERSION_CODENAME"]
        as_root("mmdebstrap", "--quiet", "--variant=minbase", packages, suite, self.root, *sources)
        for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"):
            if Path(path).exists():
                as_root("cp", "--dereference", path, f"{self.root}{path}")

    def build(self) -> None:
        for step in DOCKERFILE.read_text().replace("\\\n", "").splitlines():
            word, _, rest = step.partition(" ")
            match word:
                case "WORKDIR":
                    self.folder = rest
                    as_root("mkdir", "-p", f"{self.root}{rest}")
                case "COPY" if "--from" not in rest:
                    *files, target = rest.split()
                    for source in (ROOT / file for file in files):
                        how = "-rT" if source.is_dir() else "-p"
                        as_root("cp", how, source, f"{self.root}{self.folder}/{target}")
                case "RUN":
                    subprocess.run(self.command("sh", "-c", rest), check=True)
                case "USER":
                    self.user = rest
                case "ENV":
                    self.environment |= dict(pair.split("=", 1) for pair in rest.split())
                case "HEALTHCHECK":
                    self.health = json.loads(rest[rest.index("[") :])
                case "ENTRYPOINT":
                    self.entrypoint = json.loads(rest)

    def command(self, *words: str) -> list[str]:
        """The command that runs `words` in the image."""
        outside = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        outside.pop("PIP_FIND_LINKS", None)  # a folder of this machine
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/data"}
        settings = [f"{name}={value}" for name, value in (outside | variables | self.environment).items()]
        inside = shlex.join(["env", "-i", *settings, *words])
        enter = shlex.join(["chroot", f"--userspec={self.user}", str(self.root), "sh", "-c"])
        mounts = f"mount --bind /proc {self.root}/proc && mount --bind /dev {self.root}/dev"
        run = f"{mounts} && exec {enter} {shlex.quote(f'cd {self.folder} && exec {inside}')}"
        return [*AS_ROOT, "unshare", "--mount", "sh", "-c", run]


AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


def as_root(*words: str | Path) -> None:
    subprocess.run([*AS_ROOT, *words], check=True)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.asyncio
async def test_its_steps_make_a_gateway_of_a_fresh_debian(tmp_path: Path, unused_tcp_port: int) -> None:
    image = Image(tmp_path / "root")
    image.bootstrap()
    image.build()
    assert image.user != "0:0"
    image.environment["LP_HTTPADDR"] = f"127.0.0.1:{unused_tcp_port}"
    gateway = await asyncio.create_subprocess_exec(
        *image.command(*image.entrypoint, "-devnet"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert gateway.stdout is not None
        line = await asyncio.wait_for(gateway.stdout.readline(), 60)
        assert line.startswith(b"ready: http://127.0.0.1:")
        subprocess.run(image.command(*image.health), check=True, timeout=20)
    finally:
        gateway.terminate()
        assert await asyncio.wait_for(gateway.wait(), 40) == 0
        as_root("rm", "-rf", image.root)
