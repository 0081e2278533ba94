"""How libraries are imported without what some of them do to the rest of the process."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def contained() -> Iterator[None]:
    """Import web3, eth-tester, vyper or pygal inside this: they change nothing else, and no warning is shown.

    py_ecc and py-evm raise the limit a hundredfold for the whole process. A stranger's deeply nested JSON
    would then overrun the C stack and kill the daemon, where it is to end in a RecursionError. pygal puts a
    finder of its plugins, which Python no longer knows how to call, in the way of every later import. The
    one of importlib_metadata stays: it takes the place of Python's own, which it disables.
    """
    limit = sys.getrecursionlimit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the libraries say about each other's age
            yield
    finally:
        sys.setrecursionlimit(limit)
        sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
