"""The luck of ticket draws: expected and redeemed wei, and how likely the difference is.

Money is exact. Probabilities are floating-point numbers, for people to read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gateway.money import whole_wei
from gateway.payments.redemptions import TicketsHandedOut, Win
from gateway.payments.ticket import MAX_WIN_PROB

UNLIKELY = 0.001
"""Below this probability, wins are suspicious."""


@dataclass(slots=True)
class Luck:
    """One orchestrator's tickets of one UTC day, and their wins."""

    orchestrator: str
    day: str
    handed_out: list[TicketsHandedOut] = field(default_factory=list)
    """Its tickets, by their chance to win."""
    wins: int = 0
    redeemed: int = 0
    unknown_wins: int = 0
    """Redeemed tickets of no payment in this ledger, such as of another gateway with the same signer."""
    unknown_redeemed: int = 0

    @property
    def tickets(self) -> int:
        return sum(some.tickets for some in self.handed_out)

    @property
    def expected_wins(self) -> Fraction:
        return Fraction(sum(some.win_probs for some in self.handed_out), MAX_WIN_PROB)

    @property
    def expected(self) -> Fraction:
        """Wei that redemptions cost on average."""
        return Fraction(sum(some.value for some in self.handed_out), MAX_WIN_PROB)

    @property
    def spread(self) -> int:
        """The standard deviation of what redemptions cost, in whole wei: binomial, ticket by ticket."""
        return math.isqrt(sum(some.variance for some in self.handed_out) // MAX_WIN_PROB**2)

    @property
    def chance(self) -> float:
        """The probability, from 0 to 1, that at least this many of the tickets win."""
        return at_least(self.wins, self._groups())

    @property
    def likely(self) -> tuple[int, int]:
        """The range of redeemed wei that is not UNLIKELY."""
        if not self.tickets:
            return 0, 0
        most = math.ceil(self.expected_wins + 7 * math.sqrt(self.expected_wins) + 10)
        chances = _wins(min(most, self.tickets + 1), self._groups())
        below = list(itertools.accumulate(chances))
        least = next((k for k, chance in enumerate(below) if chance >= UNLIKELY), 0)
        above = (k for k in range(len(chances) - 1, 0, -1) if 1 - below[k - 1] >= UNLIKELY)
        one = self.expected / self.expected_wins if self.expected_wins else Fraction(0)
        return int(least * one), int(next(above, 0) * one)

    def _groups(self) -> list[tuple[int, float]]:
        """How many tickets have which chance to win: the mean of those that the ledger counts together."""
        return [
            (some.tickets, some.win_probs / (some.tickets * MAX_WIN_PROB))
            for some in self.handed_out
            if some.tickets
        ]

    @property
    def suspicious(self) -> bool:
        """Whether so many wins are UNLIKELY."""
        return self.chance < UNLIKELY

    def row(self) -> dict[str, Any]:
        """One row of a table, JSON or CSV."""
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
    """Luck by day and orchestrator, sorted by them."""
    found: dict[tuple[str, str], Luck] = {}

    def of(day: str, orchestrator: str) -> Luck:
        key = day, orchestrator.lower()
        return found.setdefault(key, Luck(orchestrator, day))

    for some in tickets:
        of(some.day, some.orchestrator).handed_out.append(some)
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
    """The probability of at least `wins` successes in groups of (draws, probability): a sum of binomials."""
    if wins > sum(draws for draws, _ in groups):
        return 0.0
    return min(1.0, max(0.0, 1.0 - sum(_wins(wins, groups))))


def _wins(less_than: int, groups: Sequence[tuple[int, float]]) -> list[float]:
    """The probability of each number of wins from 0 to below `less_than`."""
    chances = [1.0][:less_than]
    for draws, probability in groups:
        single = [_binomial(k, draws, probability) for k in range(min(draws + 1, less_than))]
        both = [0.0] * min(less_than, len(chances) + draws)
        for k, chance in enumerate(chances):
            for more, other in enumerate(single[: less_than - k], k):
                both[more] += chance * other
        chances = both
    return chances


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
