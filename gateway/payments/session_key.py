"""How a payment session is named by who may write to it."""

from __future__ import annotations

from typing import Self

FIRST_EPOCH = 1
"""Of a session that nobody has taken over."""


class SessionKey(str):
    """A session's id, with the epoch in which it was taken over: who has a former one may write no more."""

    __slots__ = ("epoch",)
    epoch: int

    def __new__(cls, session_id: str, epoch: int) -> Self:
        key = super().__new__(cls, session_id)
        key.epoch = epoch
        return key


def epoch_of(session_id: str) -> int:
    """The epoch of a key; the first one of an id as `Ledger.open_session` gives it."""
    return session_id.epoch if isinstance(session_id, SessionKey) else FIRST_EPOCH
