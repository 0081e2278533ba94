"""Imports libraries without their side effects on the process."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def contained() -> Iterator[None]:
    """Import web3, eth-tester, vyper or pygal inside this context, which also hides their warnings.

    py_ecc and py-evm raise the recursion limit a hundredfold for the whole process: deeply nested JSON from
    outside would then overrun the C stack and kill the daemon instead of raising RecursionError. pygal adds
    an import finder for its plugins that Python can no longer call. The finder of importlib_metadata stays,
    since it replaces Python's own and disables it.
    """
    limit = sys.getrecursionlimit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations in these libraries
            yield
    finally:
        sys.setrecursionlimit(limit)
        sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
