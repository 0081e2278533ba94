"""The example files in config/ are accepted as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.flags import FlagError
from gateway.settings import GATEWAY_FLAGS, Settings, read_flags, settings_from

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "config" / "gateway.example.conf"
COMPOSE = yaml.safe_load((ROOT / "config" / "compose.yaml").read_text())
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


def node_settings(service: dict[str, Any], folder: Path) -> Settings:
    """Those of a service of compose.yaml, with the example as its file."""
    assert service["command"] == ["-config", "/gateway.conf"]
    tokens = folder / "tokens"
    tokens.write_text("secret")
    filled = {name: re.sub(r"\$\{[^}]+\}", "secret", value) for name, value in service["environment"].items()}
    parsed = read_flags(
        ["-config", str(EXAMPLE)], {**filled, "LP_DATADIR": str(folder), "LP_PUBLISHTOKENS": str(tokens)}
    )
    assert not parsed.warnings
    return settings_from(parsed)


def test_the_gateways_of_compose_are_one_cluster_on_one_port(tmp_path: Path) -> None:
    services = COMPOSE["services"]
    gateways = {name: one for name, one in services.items() if one["image"] == "livepeer-live-gateway"}
    found = {name: node_settings(one, tmp_path) for name, one in gateways.items()}
    assert list(found) == ["node-1", "node-2", "node-3"]
    for name, chosen in found.items():
        assert chosen.cluster is not None
        assert (chosen.cluster.node_name, chosen.cluster.reuse_port) == (name, True)
        assert chosen.cluster.servers == ("nats://127.0.0.1:4222",)
        assert chosen.ledger == "postgresql://gateway:secret@127.0.0.1:5432/ledger"
        assert chosen.http.http_addr == ("0.0.0.0", 9935)
        assert f"{name}:/data" in gateways[name]["volumes"]
    for one in gateways.values():
        assert (one["read_only"], one["cap_drop"], one["tmpfs"]) == (True, ["ALL"], ["/tmp"])
    own = [address for one in found.values() for address in (one.http.node_addr, one.http.cli_addr)]
    assert len(set(own)) == 2 * len(found)
    assert {"nats", "postgres", *found} == set(services)
    assert {"nats", "postgres", *found} == set(COMPOSE["volumes"])


def test_engines_of_compose_are_reached_from_this_machine_only() -> None:
    for name in ("nats", "postgres"):
        assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"][name]["ports"])
        assert COMPOSE["services"][name]["healthcheck"]["test"][0] == "CMD"
