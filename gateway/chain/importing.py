"""How the Ethereum libraries are imported without what they do to the rest of the process."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def contained() -> Iterator[None]:
    """Import web3, eth-tester or vyper inside this: the recursion limit stays, and warnings are not shown.

    py_ecc and py-evm raise the limit a hundredfold for the whole process. A stranger's deeply nested JSON
    would then overrun the C stack and kill the daemon, where it is to end in a RecursionError.
    """
    limit = sys.getrecursionlimit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the libraries say about each other's age
            yield
    finally:
        sys.setrecursionlimit(limit)
