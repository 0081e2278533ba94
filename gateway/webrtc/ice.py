"""ICE (RFC 8445) through aioice; other datagrams are passed on in the callback that receives them."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from aioice import Candidate
from aioice.ice import CandidatePair, StunProtocol
from aioice.stun import Message, TransactionError
from typing_extensions import override

from gateway.webrtc.burst import Burst, send_burst, split
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.gathering import gather
from gateway.webrtc.ice_settings import CONSENT_LIFE
from gateway.webrtc.paths import MAX_ADDRESSES, Paths, may_try
from gateway.webrtc.sdp import MAX_CANDIDATES, IceCredentials
from gateway.webrtc.udp import DatagramConnection, MediaProtocol, address, ignore, is_loopback

DatagramHandler = Callable[[bytes], None]

CONSENT_REPEATS = 2
"""Retransmissions of a consent check, each after twice the time, from half a second: 3.5 s in all."""


@dataclass(frozen=True)
class ConsentTiming:
    """When a peer is asked for consent (RFC 7675, section 5.1), in seconds."""

    interval: float = 5.0
    """Between two checks."""
    life: float = CONSENT_LIFE
    """Without an answer, after which the connection ends."""


DEFAULT_CONSENT = ConsentTiming()


class IceConnection(DatagramConnection):
    """aioice's connection with our own candidates and a direct path for media in both directions.

    `remote` is None where the gateway makes the offer; `set_remote` follows with the answer. `on_closed` is
    called once when consent has expired (RFC 7675), and not after `shut`.
    """

    def __init__(
        self,
        config: WebRtcConfig,
        remote: IceCredentials | None,
        *,
        on_datagram: DatagramHandler,
        on_closed: Callable[[str], None],
        consent: ConsentTiming = DEFAULT_CONSENT,
    ) -> None:
        # the side that made the offer controls (RFC 8445, 6.1.1)
        super().__init__(ice_controlling=remote is None or remote.lite)
        if remote is not None:
            self.set_remote(remote)
        self.on_datagram = on_datagram
        self.paths = Paths()
        self.heard()
        self._config = config
        self._consent = consent
        self._on_closed = on_closed
        self._ending = False
        self._pair: object = None
        self._transport: asyncio.DatagramTransport | None = None
        self._socket: socket.socket | None = None
        self.receiving: socket.socket | None = None
        self._buffered: Callable[[], int] = _nothing
        self._peer: tuple[str, int] = ("", 0)

    def set_remote(self, remote: IceCredentials) -> None:
        """Take the peer's credentials."""
        self.remote_username = remote.username
        self.remote_password = remote.password
        self.remote_is_lite = remote.lite

    @override
    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[Candidate]:
        """Open the sockets and return the candidates; called by aioice's gather_candidates."""
        del component, addresses, timeout
        near = any(is_loopback(candidate.host) for candidate in self.remote_candidates)
        protocols, candidates = await gather(self, self._config, username=self.local_username, near=near)
        self._protocols += protocols
        return candidates

    def _is_tried(self, candidate: Candidate) -> bool:
        """Whether a candidate is neither known nor one more than a peer may have."""
        known = self.remote_candidates
        given = [(one.host, one.port) for one in known if one.type != "prflx"]
        return len(given) < MAX_CANDIDATES and (candidate.host, candidate.port) not in given

    @override
    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        """Try a candidate of the peer's; those above its limit are ignored."""
        if remote_candidate is None or self._is_tried(remote_candidate):
            await super().add_remote_candidate(remote_candidate)

    @override
    def _pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        former = len(self._check_list)
        super()._pair_remote_candidate(remote_candidate)
        made = self._check_list[former:]
        self._check_list[former:] = [pair for pair in made if may_try(pair.local_candidate, remote_candidate)]

    @override
    def check_incoming(self, message: Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Take a check of the peer's."""
        self._make_room()
        for pair in self._check_list:
            # connect() leaves pairs behind whose checks it has cancelled: this one is of use after all
            if pair.protocol is protocol and pair.remote_addr == addr and pair.task and pair.task.done():
                pair.task, pair.state = None, CandidatePair.State.WAITING
        super().check_incoming(message, addr, protocol)

    @override
    def check_complete(self, pair: CandidatePair) -> None:
        super().check_complete(pair)
        if pair.state is CandidatePair.State.SUCCEEDED and isinstance(pair.protocol, MediaProtocol):
            pair.protocol.validated(pair.remote_addr)

    def _make_room(self) -> None:
        """Forget the oldest address that was learned from a check, where there are too many."""
        if len(self._remote_candidates) < MAX_ADDRESSES:
            return
        selected = [pair.remote_candidate for pair in self._nominated.values()]
        for candidate in self._remote_candidates:
            if candidate.type == "prflx" and candidate not in selected:
                break
        else:
            return
        self._remote_candidates.remove(candidate)
        for pair in [one for one in self._check_list if one.remote_candidate is candidate]:
            if pair.task is not None:
                pair.task.cancel()
            self._check_list.remove(pair)

    def send_datagram(self, data: bytes) -> bool:
        """Send on the selected pair. Returns False while there is none."""
        transport = self._selected_transport()
        if transport is None:
            return False
        transport.sendto(data, self._peer)
        return True

    def send_burst(self, burst: Burst) -> None:
        """Send a burst on the selected pair, in order; dropped while there is none."""
        transport = self._selected_transport()
        if transport is None:
            return
        if self._socket is not None and not self.unsent:
            left = send_burst(self._socket, burst, self._peer)
        else:
            left = split(*burst)
        for datagram in left:
            transport.sendto(datagram, self._peer)

    def _selected_transport(self) -> asyncio.DatagramTransport | None:
        pair = self._nominated.get(1)
        if pair is not self._pair:
            # ICE may select another pair at any time; its address is a property that builds a tuple.
            self._pair = pair
            self._transport = pair.protocol.transport if pair is not None else None
            self._socket = getattr(pair.protocol, "socket", None) if pair is not None else None
            # a relay's transport has no buffer of its own to ask for
            self._buffered = getattr(self._transport, "get_write_buffer_size", _nothing)
            self._peer = pair.remote_addr if pair is not None else ("", 0)
        return self._transport

    @property
    def unsent(self) -> int:
        """Bytes that the selected socket could not take yet."""
        return self._buffered()

    @property
    def selected(self) -> str | None:
        pair = self._nominated.get(1)
        return None if pair is None else f"{address(*pair.local_addr)} - {address(*pair.remote_addr)}"

    @override
    async def query_consent(self) -> None:
        """Check that the peer is still there, until it does not answer any more.

        aioice's own takes no answer after half a second, so it drops peers that are busy or far away.
        """
        consent, answered = self._consent, time.monotonic()
        while time.monotonic() - answered < consent.life:
            await asyncio.sleep(consent.interval * random.uniform(0.8, 1.2))
            pair, key = self._nominated[1], (self.remote_password or "").encode()
            request = self.build_request(pair, nominate=False)
            with suppress(TransactionError):
                await pair.protocol.request(
                    request, pair.remote_addr, integrity_key=key, retransmissions=CONSENT_REPEATS
                )
                answered = time.monotonic()
                self.paths.validate(pair.remote_addr)
                self.heard()
        self._query_consent_task = None  # closing would wait for this very task
        await self.close()

    @override
    async def close(self) -> None:
        """Close every socket. aioice calls this itself when consent has expired."""
        asked, self._ending = self._ending, True
        await super().close()
        self._check_list.clear()
        self._pair = self._transport = self._socket = self.receiving = None
        self._buffered = _nothing
        if not asked:
            self._on_closed("the peer stopped answering (ICE consent expired)")
        self.on_datagram = self._on_closed = ignore

    async def shut(self) -> None:
        """Close without a call of `on_closed`."""
        self._ending = True
        await self.close()


def _nothing() -> int:
    return 0
