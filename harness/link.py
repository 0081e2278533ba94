"""A UDP path between a client and the gateway with delay and loss, in user space, reproducible by a seed."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

Address = tuple[str, int]


class _Side(asyncio.DatagramProtocol):
    def __init__(self, link: Link, *, client: bool) -> None:
        self._link = link
        self._client = client

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._link.carry(data, addr[:2], from_client=self._client)


class Link:
    """Between a client's offer and the gateway's answer: `loss` is a share, `delay` seconds either way.

    The delay varies by half, so packets also overtake each other.
    """

    def __init__(self, seed: int) -> None:
        self.loss = 0.0
        self.delay = 0.0
        self.lost = 0
        self._random = random.Random(seed)
        self._client: Address | None = None
        self._to_client: asyncio.DatagramTransport | None = None
        self._to_gateway: asyncio.DatagramTransport | None = None

    def offer(self, sdp: str) -> str:
        """The client's offer without its candidates, so that the gateway meets it on the link only."""
        return re.sub(r"a=candidate:.*\r\n", "", sdp)

    async def answer(self, sdp: str) -> str:
        """The gateway's answer with this link in the place of its loopback candidate."""
        found = re.search(r"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) typ host.*\r\n", sdp, re.IGNORECASE)
        assert found, "the gateway offers no loopback candidate"
        loop = asyncio.get_running_loop()
        self._to_gateway, _ = await loop.create_datagram_endpoint(
            lambda: _Side(self, client=False), remote_addr=("127.0.0.1", int(found[1]))
        )
        self._to_client, _ = await loop.create_datagram_endpoint(
            lambda: _Side(self, client=True), local_addr=("127.0.0.1", 0)
        )
        port = self._to_client.get_extra_info("sockname")[1]
        line = found[0].replace(f"127.0.0.1 {found[1]}", f"127.0.0.1 {port}")
        return re.sub(r"a=candidate:.*\r\n", "", sdp[: found.start()]) + line + self.offer(sdp[found.end() :])

    def carry(self, data: bytes, sender: Address, *, from_client: bool) -> None:
        if from_client:
            self._client = sender
        if self._random.random() < self.loss:
            self.lost += 1
        elif self.delay:
            late = self.delay * self._random.uniform(0.5, 1.5)
            asyncio.get_running_loop().call_later(late, self._send, data, from_client)
        else:
            self._send(data, from_client)

    def _send(self, data: bytes, from_client: bool) -> None:
        if from_client and self._to_gateway is not None:
            self._to_gateway.sendto(data)
        elif not from_client and self._to_client is not None and self._client is not None:
            self._to_client.sendto(data, self._client)

    def close(self) -> None:
        for side in (self._to_client, self._to_gateway):
            if side is not None:
                side.close()
        self._to_client = self._to_gateway = None
