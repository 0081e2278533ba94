"""Who is paid at a host and port does not change unnoticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
