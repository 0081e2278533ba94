"""Errors of reading the chain."""

from __future__ import annotations


class ChainError(Exception):
    """The chain could not be read; the text is a sentence."""


class ChainUnreachable(ChainError):
    """No RPC endpoint gave a usable answer in time."""


class RpcRefused(ChainError):
    """An endpoint answered with an error, as to a call that reverts or too many blocks, or with too much."""
