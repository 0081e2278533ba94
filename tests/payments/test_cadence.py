"""The announced cadence, compared with a model of a signer."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.payments.cadence import Cadence
from gateway.payments.payment import Payment
from gateway.payments.timebase import NANOSECONDS
from harness.payment_models import PRICE, SignerModel, Status, orchestrator_info
from signer_client import SignerState

HOUR = 3600


def payments_of_an_hour(ticket_seconds: Fraction, interval: int) -> tuple[int, list[int]]:
    """Tickets of the first payment, and of each that follows when the signer is asked at that interval."""
    signer, info = SignerModel(), orchestrator_info(ticket_seconds=ticket_seconds)
    state: SignerState | None = None
    tickets = []
    for second in range(0, HOUR + 1, interval):
        try:
            live = signer.sign(info, state, Fraction(second))
        except Status as status:
            assert status.status == 482
            continue
        state = live.state
        tickets.append(Payment.read(live).tickets)
    return tickets[0], tickets[1:]


@pytest.mark.parametrize("interval", [1, 5, 30])
@pytest.mark.parametrize("seconds", [Fraction(3, 5), Fraction(1), Fraction(4), Fraction(10), Fraction(61)])
def test_what_is_announced_is_what_a_signer_does(seconds: Fraction, interval: int) -> None:
    first, later = payments_of_an_hour(seconds, interval)
    told = Cadence(Fraction(PRICE), seconds * PRICE, interval * NANOSECONDS).figures()
    assert told["ticket_seconds"] == float(seconds)
    assert told["first_tickets"] == first
    assert told["payment_every_s"] == pytest.approx(HOUR / len(later), rel=0.05)
    assert told["tickets_per_payment"] == pytest.approx(sum(later) / len(later), rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "refused", "warned"),
    [
        (Fraction(59, 100), True, False),
        (Fraction(3, 5), False, False),
        (Fraction(60), False, False),
        (Fraction(61), False, True),
    ],
)
def test_tickets_that_are_too_small_are_refused_and_large_ones_are_warned_of(
    seconds: Fraction, refused: bool, warned: bool
) -> None:
    cadence = Cadence(Fraction(PRICE), seconds * PRICE, 5 * NANOSECONDS)
    assert ("must raise the expected value" in cadence.refusal) == refused
    assert ("more than the preload" in cadence.warning) == warned
