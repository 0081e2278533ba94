"""Orchestrators that the operator never wants to use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.candidates.verdict import Verdict
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.blocklist import REREAD_INTERVAL, Blocklist, parse_entries
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.info import OrchestratorInfo

InfoMaker = Callable[..., livepeer_pb2.OrchestratorInfo]
LISTED = Listing("o.example:1")
ADDRESS, RECIPIENT = "0x" + "01" * 20, "0x" + "0A" * 20


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def info(orchestrator_info: InfoMaker) -> OrchestratorInfo:
    message = orchestrator_info("https://Service.example:8935")
    message.ticket_params.recipient = bytes.fromhex(RECIPIENT[2:])
    return OrchestratorInfo.parse(message.SerializeToString())


@pytest.mark.parametrize(
    "value",
    [
        ADDRESS,
        RECIPIENT,
        "o.example:1",
        "https://O.example:1/",
        "service.example:8935",
        f"a:1, {RECIPIENT}",
    ],
)
def test_an_orchestrator_is_blocked_by_either_address_and_by_either_url(
    info: OrchestratorInfo, value: str
) -> None:
    refusal = Blocklist.parse(value).check(LISTED, info)
    assert refusal is not None
    assert refusal[0] is Verdict.BLOCKED


def test_the_others_are_not(info: OrchestratorInfo) -> None:
    assert Blocklist.parse("o.example:2,0x" + "2" * 40).check(LISTED, info) is None


@pytest.mark.parametrize("value", ["blocked.txt", "0x12", "a b", "ftp://a:1", "a:99999"])
def test_what_names_nobody_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        Blocklist.parse(value)


def test_entries_are_separated_by_lines_or_commas_with_comments() -> None:
    assert parse_entries("a:1,b:2 # two\n#c:3\n\nd:4\n") == {"a:1", "b:2", "d:4"}


def test_a_file_is_read_again_when_it_changes_and_a_bad_one_leaves_the_former_entries(
    info: OrchestratorInfo, tmp_path: Path
) -> None:
    path, clock = tmp_path / "blocked", Clock()
    path.write_text("o.example:1\n")
    blocklist = Blocklist(parse_entries(path.read_text()), path, clock)
    assert blocklist.check(LISTED, info)
    path.write_text("o.example:22\n")
    clock.now += REREAD_INTERVAL
    assert blocklist.check(LISTED, info) is None
    path.write_text("o.example:1\nnobody\n")
    clock.now += REREAD_INTERVAL
    assert blocklist.check(Listing("o.example:22"), info), "the former entries stay"
    path.unlink()
    clock.now += REREAD_INTERVAL
    assert blocklist.check(Listing("o.example:22"), info)
    path.write_text("o.example:1\n")
    clock.now += REREAD_INTERVAL
    assert blocklist.check(LISTED, info)
