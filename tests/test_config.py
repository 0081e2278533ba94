"""The example files in config/ are accepted as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.flags import FlagError
from gateway.settings import GATEWAY_FLAGS, read_flags, settings_from

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "config" / "gateway.example.conf"
TABLE = {flag.name: flag for flag in GATEWAY_FLAGS}
COMMENTED = re.findall(r"^#(\w+) (.+)$", EXAMPLE.read_text(), re.MULTILINE)


def test_the_example_starts_a_gateway_as_it_stands(tmp_path: Path) -> None:
    chosen = settings_from(read_flags(["-config", str(EXAMPLE), "-dataDir", str(tmp_path)], {}))
    assert chosen.http.http_addr == ("127.0.0.1", 9935)
    assert chosen.payments.ceiling == 102 * 10**13
    assert len(chosen.network.orchestrators) == 2


@pytest.mark.parametrize(("name", "value"), COMMENTED)
def test_what_it_suggests_is_taken(name: str, value: str) -> None:
    assert TABLE[name].kind.parse(value) is not None


def test_what_it_suggests_is_taken_together(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text()
    for name, value in COMMENTED:
        if TABLE[name].kind.name == "path":
            file = tmp_path / name
            file.mkdir() if name == "dataDir" else file.write_text("")
            lines = lines.replace(f"#{name} {value}", f"#{name} {file}")
    # a bare price in wei per pixel does not go with a price in ETH, nor one port with many
    alternatives = r"^#(?!pixelsPerUnit|iceUdpPortRange)(\w+ )"
    path = tmp_path / "gateway.conf"
    path.write_text(re.sub(alternatives, r"\1", lines, flags=re.MULTILINE))
    chosen = settings_from(read_flags(["-config", str(path)], {}))
    assert chosen.http.publish_tokens == tmp_path / "publishTokens"


def test_a_line_with_a_typo_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gateway.conf"
    path.write_text(EXAMPLE.read_text() + "maxStrems 3\n")
    with pytest.raises(FlagError, match=r"'maxStrems' in line \d+ of .*did you mean -maxStreams\?"):
        read_flags(["-config", str(path)], {})
