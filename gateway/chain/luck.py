"""Expected against redeemed: what the lottery of tickets should cost, what it did, what chance explains.

Money is exact. Chances are floating-point numbers, for people to read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gateway.money import whole_wei
from gateway.payments.redemptions import TicketsHandedOut, Win
from gateway.payments.ticket import MAX_WIN_PROB

UNLIKELY = 0.001
"""A chance below this is worth a question to the orchestrator."""


@dataclass(slots=True)
class Luck:
    """One orchestrator's tickets of one UTC day, and what became of them."""

    orchestrator: str
    day: str
    draws: dict[tuple[int, int], int] = field(default_factory=dict)
    """How many tickets by face value and win probability."""
    wins: int = 0
    redeemed: int = 0
    unknown_wins: int = 0
    """Redeemed tickets that are in no payment of this ledger: another gateway's, with the same signer."""
    unknown_redeemed: int = 0

    @property
    def tickets(self) -> int:
        return sum(self.draws.values())

    @property
    def expected_wins(self) -> Fraction:
        return Fraction(sum(n * p for (_, p), n in self.draws.items()), MAX_WIN_PROB)

    @property
    def expected(self) -> Fraction:
        """Wei that redemptions cost on average."""
        return Fraction(sum(n * face * p for (face, p), n in self.draws.items()), MAX_WIN_PROB)

    @property
    def spread(self) -> int:
        """The standard deviation of what redemptions cost, in whole wei: binomial, ticket by ticket."""
        variance = sum(n * face**2 * p * (MAX_WIN_PROB - p) for (face, p), n in self.draws.items())
        return math.isqrt(variance // MAX_WIN_PROB**2)

    @property
    def chance(self) -> float:
        """How likely it is that at least so many of these tickets win, from 0 to 1.

        Win probabilities follow the price of gas, and a day has thousands: they are taken to three digits.
        """
        groups: dict[float, int] = {}
        for (_, probability), n in self.draws.items():
            rounded = float(f"{probability / MAX_WIN_PROB:.3g}")
            groups[rounded] = groups.get(rounded, 0) + n
        return at_least(self.wins, [(n, probability) for probability, n in groups.items()])

    @property
    def suspicious(self) -> bool:
        """Whether more was redeemed than the tickets allow, as far as chance goes."""
        return self.chance < UNLIKELY

    def row(self) -> dict[str, Any]:
        """As tables, JSON and CSV show it."""
        return {
            "day": self.day,
            "orchestrator": self.orchestrator,
            "tickets": self.tickets,
            "expected_wins": round(float(self.expected_wins), 2),
            "wins": self.wins,
            "expected_wei": whole_wei(self.expected),
            "spread_wei": str(self.spread),
            "redeemed_wei": str(self.redeemed),
            "chance": round(self.chance, 6),
            "verdict": "more than chance explains" if self.suspicious else "chance",
            "unknown_wins": self.unknown_wins,
            "unknown_wei": str(self.unknown_redeemed),
        }


def luck_of(tickets: Iterable[TicketsHandedOut], wins: Iterable[Win]) -> list[Luck]:
    """By day and orchestrator, in that order."""
    found: dict[tuple[str, str], Luck] = {}

    def of(day: str, orchestrator: str) -> Luck:
        key = day, orchestrator.lower()
        return found.setdefault(key, Luck(orchestrator, day))

    for some in tickets:
        draws = of(some.day, some.orchestrator).draws
        kind = some.face_value, some.win_prob
        draws[kind] = draws.get(kind, 0) + some.tickets
    for win in wins:
        luck = of(win.day, win.orchestrator)
        if win.known:
            luck.wins += 1
            luck.redeemed += win.amount
        else:
            luck.unknown_wins += 1
            luck.unknown_redeemed += win.amount
    return [found[key] for key in sorted(found)]


def at_least(wins: int, groups: Sequence[tuple[int, float]]) -> float:
    """How likely at least `wins` successes are in groups of (draws, probability): the sum of binomials."""
    if wins > sum(draws for draws, _ in groups):
        return 0.0
    fewer = [1.0] + [0.0] * (wins - 1) if wins else []
    for draws, probability in groups:
        single = [_binomial(k, draws, probability) for k in range(min(draws + 1, len(fewer)))]
        fewer = [
            sum(fewer[k - j] * single[j] for j in range(min(k + 1, len(single)))) for k in range(len(fewer))
        ]
    return min(1.0, max(0.0, 1.0 - sum(fewer)))


def _binomial(successes: int, draws: int, probability: float) -> float:
    if successes > draws:
        return 0.0
    if probability in (0.0, 1.0):
        return float(successes == draws * probability)
    logarithm = (
        math.lgamma(draws + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(draws - successes + 1)
        + successes * math.log(probability)
        + (draws - successes) * math.log1p(-probability)
    )
    return math.exp(logarithm)
