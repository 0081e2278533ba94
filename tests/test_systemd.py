"""The units for systemd: it takes them, they expose little; times and variables are the gateway's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import GATEWAY_FLAGS

CONFIG = Path(__file__).parents[1] / "config"
UNITS = ("livepeer-gateway.service", "livepeer-gateway@.service")
ANALYZE = shutil.which("systemd-analyze")
WORST = 20
"""The highest exposure by systemd's own measure, of 100: under 20 it says OK, over 70 it warns."""
SETTLING = 30
"""Seconds between the end of the last stream and that of the process, at the most."""

pytestmark = pytest.mark.skipif(ANALYZE is None, reason="systemd is not here")


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(ANALYZE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_it_and_finds_it_little_exposed(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name.replace("@", "@one")
    program = Path(sys.executable).parent / "livepeer-gateway"
    text, replaced = re.subn(
        r"^ExecStart=\S+", f"ExecStart={program}", (CONFIG / name).read_text(), flags=re.MULTILINE
    )
    unit.write_text(text)
    assert replaced == 1
    verified = analyze("verify", "--man=no", unit)
    assert (verified.returncode, verified.stderr) == (0, "")
    secure = analyze("security", "--offline=yes", "--no-pager", f"--threshold={WORST}", unit)
    assert secure.returncode == 0, secure.stdout[-500:]


@pytest.mark.parametrize("name", UNITS)
def test_its_variables_are_flags_and_it_stops_after_the_drain(name: str) -> None:
    lines = dict(re.findall(r"^(\w+)=(.+)$", (CONFIG / name).read_text(), re.MULTILINE))
    flags = {f"LP_{flag.name.upper()}": flag for flag in GATEWAY_FLAGS}
    assert {one.partition("=")[0] for one in lines["Environment"].split()} <= set(flags)
    assert lines["Environment"].split()[0] == f"LP_DATADIR=%S/{lines['StateDirectory']}"
    drain = int(str(flags["LP_DRAINTIMEOUT"].default).removesuffix("s"))
    assert int(lines["TimeoutStopSec"].removesuffix("s")) > drain + SETTLING
