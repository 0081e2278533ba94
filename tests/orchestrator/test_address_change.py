"""Who is paid at a host and port does not change unnoticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from gateway.candidates.verdict import Verdict
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.address_change import AddressChange
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.info import OrchestratorInfo

InfoMaker = Callable[..., livepeer_pb2.OrchestratorInfo]
FORMER, NEW = "0x" + "0" * 39 + "7", "0x" + "01" * 20


@pytest.fixture
def info(orchestrator_info: InfoMaker) -> OrchestratorInfo:
    return OrchestratorInfo.parse(orchestrator_info().SerializeToString())


@pytest.mark.parametrize(
    ("addr", "accepted", "refused"),
    [
        ("o.example:1", (), True),
        ("https://O.example:1/", (), True),
        ("o.example:1", ("o.example:2",), True),
        ("o.example:1", ("o.example:1",), False),
        ("o.example:1", (NEW,), False),
        ("o.example:2", (), False),
        ("127.0.0.1:1", (), False),
        ("localhost:1", (), False),
        (f"{NEW}@o.example:1", (), False),
    ],
)
def test_another_address_is_refused_until_the_operator_accepts_it(
    info: OrchestratorInfo, addr: str, accepted: tuple[str, ...], refused: bool
) -> None:
    paid = {"o.example:1": FORMER, "127.0.0.1:1": FORMER, "localhost:1": FORMER}
    refusal = AddressChange(paid.get, accepted).check(Listing.parse(addr), info)
    assert (refusal is not None) == refused
    if refusal is not None:
        assert refusal[0] is Verdict.ADDRESS_CHANGED
        assert FORMER in refusal[1]
        assert NEW in refusal[1].lower()


def test_the_same_address_is_no_change(info: OrchestratorInfo) -> None:
    assert AddressChange({"o.example:1": info.recipient}.get).check(Listing("o.example:1"), info) is None


def test_a_change_is_warned_of_once_with_both_addresses_and_how_to_accept_it(info: OrchestratorInfo) -> None:
    check = AddressChange({"o.example:1": FORMER, "o.example:2": FORMER}.get).check
    with capture_logs() as logs:
        for addr in ("o.example:1", "https://o.example:1/", "o.example:1"):
            assert check(Listing.parse(addr), info) is not None
        (warning,) = logs
        assert warning["log_level"] == "warning"
        assert (warning["paid_as"], warning["asks_as"]) == (FORMER, info.recipient)
        assert warning["accept"] == "-orchAcceptAddressChange o.example:1"
        check(Listing.parse("o.example:2"), info)
    assert [entry["addr"] for entry in logs] == ["o.example:1", "o.example:2"]
