"""Reads the chain's clocks and the sender's funds every few seconds; all questions use the last reading."""

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
from gateway.chain.funds import FundsCheck
from gateway.orchestrator.info import OrchestratorInfo

log = structlog.get_logger("chain")

MAX_AGE = 600.0
"""Seconds after which a reading refuses nobody any more: it may be outdated."""
EXPIRY_MARGIN = 1
"""Blocks before their expiration from which a signer asks for newer ticket params."""


class ClockAndFunds(Protocol):
    """The part of the chain's reader that is used here."""

    async def rounds(self) -> Rounds: ...

    async def funds(self, sender: str) -> SenderFunds: ...

    def switch_endpoint(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """Clocks and funds, read at `at` (monotonic seconds)."""

    rounds: Rounds
    funds: FundsCheck | None
    at: float

    @property
    def refuses(self) -> bool:
        return self.funds is not None and self.funds.refusal() is not None


class ChainWatch:
    """The newest reading of the chain's clocks and of `sender`'s funds; no funds are read where it is empty.

    `burn` gives the wei per second that live streams cost now; the deposit should last `min_hours`. `run`
    reads every `interval` seconds; no other method waits for the chain.
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
        self._reading: Reading | None = None
        self._error = ""
        self._logged: tuple[bool, int] | None = None
        """Refusal or warning, and the round of an unlock: the hours left change too often for the log."""

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self.update()
            await asyncio.sleep(self._interval)

    async def update(self) -> None:
        """Read once. Where that fails, the reading before stays."""
        try:
            reading = await self._read()
            trouble = ""
            if reading.refuses:
                # another endpoint has to agree before publishers are refused
                self._reader.switch_endpoint()
                reading = await self._read()
                trouble = "" if reading.refuses else "RPC endpoints disagree about the funds"
            self._reading = reading
        except ChainError as error:
            trouble = str(error)
        if trouble and trouble != self._error:
            log.warning("cannot read the chain", detail=trouble)
        self._error = trouble
        if self._reading is not None:
            self._log_change()

    async def _read(self) -> Reading:
        rounds, check = await self._reader.rounds(), None
        if self._sender:
            funds = await self._reader.funds(self._sender)
            check = FundsCheck(self._sender, funds, rounds.round_number)
        return Reading(rounds, check, self._clock())

    def refusal(self, info: OrchestratorInfo) -> str | None:
        """Why tickets for this orchestrator would be refused; None where they would not, as far as known."""
        reading = self._fresh()
        if reading is None or reading.funds is None or not info.has_ticket_params:
            return None
        return reading.funds.refusal(int.from_bytes(info.message.ticket_params.face_value, "big"))

    def stale(self, info: OrchestratorInfo) -> str | None:
        """Why these ticket params are certainly too old; None where they are not, or nothing is known.

        A creation round of the future is no error: nodes see a new round at different times.
        """
        reading = self._fresh()
        if reading is None or info.expiration_block is None:
            return None
        if info.expiration_block <= reading.rounds.l1_block + EXPIRY_MARGIN:
            return f"they expire at block {info.expiration_block}, the chain is at {reading.rounds.l1_block}"
        created = info.message.ticket_params.expiration_params.creation_round
        if 0 < created < reading.rounds.round_number - 1:
            return f"they are of round {created}, the chain is in round {reading.rounds.round_number}"
        return None

    def json(self) -> dict[str, Any]:
        """The funds, how long they last, and what prevents payments, for operators."""
        reading, burn = self._reading, self.burn()
        check = reading.funds if reading else None
        funds = check.funds if check else None
        left = check.hours_left(burn) if check else None
        return {
            "sender": self._sender or None,
            "deposit_wei": str(funds.deposit) if funds else None,
            "reserve_wei": str(funds.reserve) if funds else None,
            "unlock_round": funds.withdraw_round or None if funds else None,
            "hours_left": None if left is None else round(float(left), 3),
            "max_face_value_wei": str(check.max_face_value) if check else None,
            "burn_wei_per_second": str(burn),
            "refusal": check.refusal() if check else None,
            "warning": check.warning(burn, self._min_hours) if check else None,
            "round": reading.rounds.round_number if reading else None,
            "l1_block": reading.rounds.l1_block if reading else None,
            "age_s": round(self._clock() - reading.at, 1) if reading else None,
            "error": self._error or None,
        }

    def funds(self) -> dict[str, Any]:
        """The fields for a stream's status."""
        seen = self.json()
        shown = ("deposit_wei", "reserve_wei", "unlock_round", "hours_left", "refusal", "warning")
        return {key: seen[key] for key in shown}

    def _fresh(self) -> Reading | None:
        reading = self._reading
        return reading if reading is not None and self._clock() - reading.at < MAX_AGE else None

    def _log_change(self) -> None:
        """Log a warning once when it appears, and once when it is over."""
        assert self._reading is not None
        check = self._reading.funds
        if check is None:
            return
        refusal, warning = check.refusal(), check.warning(self.burn(), self._min_hours)
        kind = (refusal is not None, check.funds.withdraw_round) if refusal or warning else None
        if kind is not None and kind != self._logged:
            log.warning("funds of the signer", detail=refusal or warning)
        elif kind is None and self._logged is not None:
            log.info("funds of the signer are sufficient again")
        self._logged = kind
