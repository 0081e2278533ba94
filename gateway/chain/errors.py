"""Everything that reading the chain can end with."""

from __future__ import annotations


class ChainError(Exception):
    """The chain gave no answer to work with, as a sentence."""


class ChainUnreachable(ChainError):
    """No RPC endpoint answered in time with anything that could be used."""


class RpcRefused(ChainError):
    """An endpoint answered with an error: a contract that reverts, a range of blocks that is too long."""
