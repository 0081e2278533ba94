"""The addresses of one peer: which of them are its own, and how often the others are checked. No I/O."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address

from aioice import Candidate

from gateway.allowance import Allowance

MAX_ADDRESSES = 64
"""Limit of remembered addresses of one peer, which may use several and change them."""
MAX_CLAIMS = 16
"""Limit of addresses that the peer checks from and that have not answered yet."""
MAX_HELD = 16
"""Limit of datagrams kept from such addresses."""
MAX_HELD_BYTES = 2048
"""Limit of each of them."""
CHECKS_AT_ONCE = 6
"""Checks to an address that has not answered one; each is sent three times within 1.5 s."""
CHECKS_PER_SECOND = 1.0
"""Further ones to such an address."""

Address = tuple[str, int]


class Paths:
    """A peer's address is valid once it has answered a check of our own (RFC 8445, 7.2.5.3).

    Anybody may send from any address: a check of the peer's with its password may be a copy, and a source
    address forged. Where such a check came from an address is only a claim, whose datagrams wait.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._valid: OrderedDict[Address, None] = OrderedDict()
        self._claims: OrderedDict[Address, list[bytes]] = OrderedDict()
        self._owed: set[Address] = set()
        """Claims for which a check may be sent whatever was sent before."""
        self._checks: OrderedDict[Address, Allowance] = OrderedDict()

    def __contains__(self, address: object) -> bool:
        """Whether this address is valid."""
        return address in self._valid

    def claim(self, address: Address) -> None:
        """A check with the right password came from here: one of ours may answer it."""
        if address not in self._valid:
            self._claims.setdefault(address, [])
            self._owed.add(address)
            if len(self._claims) > MAX_CLAIMS:
                self._owed.discard(self._claims.popitem(last=False)[0])

    def validate(self, address: Address) -> list[bytes]:
        """The address has answered a check. Returns the datagrams that waited for that."""
        self._valid[address] = None
        self._valid.move_to_end(address)
        if len(self._valid) > MAX_ADDRESSES:
            self._valid.popitem(last=False)
        self._checks.pop(address, None)
        self._owed.discard(address)
        return self._claims.pop(address, [])

    def hold(self, address: Address, datagram: bytes) -> None:
        """Keep a datagram of an address that may become valid; drop it where nothing says that it may."""
        waiting, held = self._claims.get(address), sum(map(len, self._claims.values()))
        if waiting is not None and held < MAX_HELD and len(datagram) <= MAX_HELD_BYTES:
            waiting.append(datagram)

    def may_check(self, address: Address) -> bool:
        """Whether a check may be sent there now; it counts then.

        An offer may name addresses of others, which must not get many datagrams for it.
        """
        if address in self._valid:
            return True
        if address in self._owed:
            self._owed.remove(address)
            return True
        allowance = self._checks.pop(address, None)
        allowance = allowance or Allowance(CHECKS_AT_ONCE, CHECKS_PER_SECOND, self._clock)
        self._checks[address] = allowance
        if len(self._checks) > 2 * MAX_ADDRESSES:
            self._checks.popitem(last=False)
        return allowance.take()


def may_try(local: Candidate, remote: Candidate) -> bool:
    """Whether checks go from this candidate of ours to that one of the peer's.

    Loopback and link-local addresses are one machine's and one link's: they are tried only from an address
    there.
    """
    ours, theirs = ip_address(local.host), ip_address(remote.host)
    if not (theirs.is_loopback or theirs.is_link_local):
        return not ours.is_loopback
    return (ours.is_loopback, ours.is_link_local) == (theirs.is_loopback, theirs.is_link_local)
