"""Checks of an orchestrator before it is chosen: its tickets, the signer's funds, its version."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from gateway.candidates.verdict import Verdict
from gateway.eth_rate import PriceNow, wei_now
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.orchestrator.selection import Check, Refusal
from gateway.orchestrator.version import Version, parse_version
from gateway.payments.cadence import Cadence
from gateway.payments.signing_rules import PIXEL_RULES, SECOND_RULES
from gateway.payments.ticket_limits import TicketLimits
from signer_client import PaymentType


def ticket_check(limits: TicketLimits, ceiling: PriceNow, interval: int) -> Check:
    """Refuses tickets that are too large for the limits, or too small for a session's first payment.

    `ceiling` is wei per second, `interval` the nanoseconds between payments.
    """

    def check(listing: Listing, info: OrchestratorInfo) -> Refusal | None:
        if not info.price or not info.ticket_ev:
            return None
        rules = PIXEL_RULES if info.unit is PriceUnit.PIXELS else SECOND_RULES
        cadence = Cadence(info.price, info.ticket_ev, interval, rules.opening)
        too_large = limits.refusal_of_first(cadence.first_tickets, cadence.ticket_ev)
        why = limits.refusal(info, wei_now(ceiling) or Fraction(0)) or cadence.refusal or too_large
        return (Verdict.BAD_TICKET_PARAMS, why) if why else None

    return check


def type_check(refusal: Callable[[PaymentType], str]) -> Check:
    """Refuses who is paid in a way that the signer does not pay, as `refusal` says."""

    def check(listing: Listing, info: OrchestratorInfo) -> Refusal | None:
        rules = PIXEL_RULES if info.unit is PriceUnit.PIXELS else SECOND_RULES
        why = refusal(rules.type)
        return (Verdict.SIGNER_REFUSES_TYPE, why) if why else None

    return check


def funds_check(refusal: Callable[[OrchestratorInfo], str | None]) -> Check:
    """Refuses tickets that the signer's funds on chain do not back, as `refusal` says."""

    def check(listing: Listing, info: OrchestratorInfo) -> Refusal | None:
        why = refusal(info)
        return (Verdict.UNFUNDED, why) if why else None

    return check


def version_check(least: Version) -> Check:
    """Refuses a go-livepeer before this version, or of none. Only its three numbers count."""

    def check(listing: Listing, info: OrchestratorInfo) -> Refusal | None:
        version = parse_version(info.version)
        if version is not None and version >= least:
            return None
        shown = ".".join(map(str, least))
        why = f"its version is {info.version or 'unknown'}, and -orchMinLivepeerVersion is {shown}"
        return Verdict.BLOCKED, why

    return check
