"""Looks at the chain every few seconds, so that everybody else is answered at once from what was seen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import structlog

from gateway.chain.errors import ChainError
from gateway.chain.facts import Rounds, SenderFunds
from gateway.chain.funds import Backing
from gateway.orchestrator.info import OrchestratorInfo

log = structlog.get_logger("chain")

GOOD_FOR = 600.0
"""Seconds after which what was seen refuses nobody any more: it may long be otherwise."""
EXPIRY_MARGIN = 1
"""Blocks before their expiration from which a signer wants newer ticket params."""


class ClockAndFunds(Protocol):
    """The part of the chain's reader that is used here."""

    async def rounds(self) -> Rounds: ...

    async def funds(self, sender: str) -> SenderFunds: ...

    def turn_to_another(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen at `at` (monotonic seconds)."""

    rounds: Rounds
    backing: Backing | None
    at: float

    @property
    def refuses(self) -> bool:
        return self.backing is not None and self.backing.refusal() is not None


class ChainWatch:
    """The newest sight of clock and funds. `sender` empty: there is nobody whose funds to look at.

    `burn` gives the wei per second that live streams cost now, `min_hours` is what the deposit should last.
    `run` looks every `interval` seconds until cancelled; everything else asks nobody.
    """

    def __init__(
        self,
        reader: ClockAndFunds,
        sender: str,
        *,
        min_hours: Fraction,
        interval: float,
        burn: Callable[[], Fraction] = Fraction,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.burn = burn
        self._reader = reader
        self._sender = sender
        self._min_hours = min_hours
        self._interval = interval
        self._clock = clock
        self._sight: Sight | None = None
        self._error = ""
        self._said: str | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Look once. What cannot be seen leaves what was seen before."""
        try:
            sight = await self._see()
            trouble = ""
            if sight.refuses:
                # nobody is turned away on one endpoint's word where another may know better
                self._reader.turn_to_another()
                sight = await self._see()
                trouble = "" if sight.refuses else "RPC endpoints disagree about the funds"
            self._sight = sight
        except ChainError as error:
            trouble = str(error)
        if trouble and trouble != self._error:
            log.warning("chain cannot be read", detail=trouble)
        self._error = trouble
        if self._sight is not None:
            self._announce()

    async def _see(self) -> Sight:
        rounds, backing = await self._reader.rounds(), None
        if self._sender:
            funds = await self._reader.funds(self._sender)
            backing = Backing(self._sender, funds, rounds.round_number)
        return Sight(rounds, backing, self._clock())

    def refusal(self, info: OrchestratorInfo) -> str | None:
        """Why tickets for this orchestrator would be refused; None where nothing speaks against them."""
        sight = self._fresh()
        if sight is None or sight.backing is None or not info.has_ticket_params:
            return None
        return sight.backing.refusal(int.from_bytes(info.message.ticket_params.face_value, "big"))

    def stale(self, info: OrchestratorInfo) -> str | None:
        """Why these ticket params are clearly too old; None where they are not, or nothing is known.

        A creation round that the chain has not seen yet is no fault: rounds change, and not for everybody at
        once.
        """
        sight = self._fresh()
        if sight is None or info.expiration_block is None:
            return None
        if info.expiration_block <= sight.rounds.l1_block + EXPIRY_MARGIN:
            return f"they expire at block {info.expiration_block}, the chain is at {sight.rounds.l1_block}"
        created = info.message.ticket_params.expiration_params.creation_round
        if 0 < created < sight.rounds.round_number - 1:
            return f"they are of round {created}, and the chain is in {sight.rounds.round_number}"
        return None

    def json(self) -> dict[str, Any]:
        """For operators: the funds, how long they last, what stands against paying."""
        sight, burn = self._sight, self.burn()
        backing = sight.backing if sight else None
        funds = backing.funds if backing else None
        left = backing.hours_left(burn) if backing else None
        return {
            "sender": self._sender or None,
            "deposit_wei": str(funds.deposit) if funds else None,
            "reserve_wei": str(funds.reserve) if funds else None,
            "unlock_round": funds.withdraw_round or None if funds else None,
            "hours_left": None if left is None else round(float(left), 3),
            "max_face_value_wei": str(backing.max_face_value) if backing else None,
            "burn_wei_per_second": str(burn),
            "refusal": backing.refusal() if backing else None,
            "warning": backing.warning(burn, self._min_hours) if backing else None,
            "round": sight.rounds.round_number if sight else None,
            "l1_block": sight.rounds.l1_block if sight else None,
            "age_s": round(self._clock() - sight.at, 1) if sight else None,
            "error": self._error or None,
        }

    def funds(self) -> dict[str, Any]:
        """What a stream's status says of the funds that it is paid from."""
        seen = self.json()
        shown = ("deposit_wei", "reserve_wei", "unlock_round", "hours_left", "refusal", "warning")
        return {key: seen[key] for key in shown}

    def _fresh(self) -> Sight | None:
        sight = self._sight
        return sight if sight is not None and self._clock() - sight.at < GOOD_FOR else None

    def _announce(self) -> None:
        """Tell the log once when something comes up or goes away."""
        assert self._sight is not None
        backing = self._sight.backing
        said = None
        if backing is not None:
            said = backing.refusal() or backing.warning(self.burn(), self._min_hours)
        kind = None if said is None else said.partition(" ")[0]
        if said is not None and kind != self._said:
            log.warning("funds of the signer", detail=said)
        elif said is None and self._said is not None:
            log.info("funds of the signer are well again")
        self._said = kind
