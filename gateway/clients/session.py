"""A WHIP or WHEP session with aiortc's peer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from yarl import URL

TIMEOUT = 20.0
"""Seconds for a request; a gateway may wait for an orchestrator's turn before it answers a publisher."""
MAX_ANSWER = 256 * 1024
"""Bytes of an answer that are read."""


class ClientFailed(Exception):
    """Why a command cannot go on, as a sentence."""


@dataclass(frozen=True, slots=True)
class ServerSession:
    """What the server answered."""

    location: URL
    playback: URL | None
    """Where the result can be watched, as the gateway says."""


def peer_connection() -> RTCPeerConnection:
    """A peer without STUN: both sides see each other, or the server has a public address."""
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def send_h264(peer: RTCPeerConnection, track: MediaStreamTrack) -> None:
    """Offer a video track as H.264 alone."""
    transceiver = peer.addTransceiver(track, direction="sendonly")
    capabilities = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([c for c in capabilities if c.mimeType in ("video/H264", "video/rtx")])


@asynccontextmanager
async def session(
    http: aiohttp.ClientSession, url: URL, peer: RTCPeerConnection, headers: Mapping[str, str]
) -> AsyncIterator[ServerSession]:
    """Offer what the peer has, take the answer; DELETE and close at the end. Raises ClientFailed."""
    try:
        await peer.setLocalDescription(await peer.createOffer())
        location, playback, answer = await _post(http, url, peer.localDescription.sdp, headers)
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        try:
            yield ServerSession(location, playback)
        finally:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with http.delete(location, headers=headers):
                    pass
    finally:
        await peer.close()


async def connected(peer: RTCPeerConnection, seconds: float) -> None:
    """Wait until media may flow. Raises ClientFailed."""
    changed = asyncio.Event()
    peer.on("connectionstatechange", changed.set)
    try:
        async with asyncio.timeout(seconds):
            while peer.connectionState not in ("connected", "failed", "closed"):
                changed.clear()
                await changed.wait()
    except TimeoutError:
        raise ClientFailed(f"no connection for media within {seconds:g} s: is UDP let through?") from None
    if peer.connectionState != "connected":
        raise ClientFailed("the connection for media failed: is UDP let through?")


async def _post(
    http: aiohttp.ClientSession, url: URL, offer: str, headers: Mapping[str, str]
) -> tuple[URL, URL | None, str]:
    given = {**headers, "Content-Type": "application/sdp"}
    try:
        async with asyncio.timeout(TIMEOUT), http.post(url, data=offer, headers=given) as response:
            body = await response.content.read(MAX_ANSWER)
            while not response.content.at_eof() and len(body) < MAX_ANSWER:
                body += await response.content.read(MAX_ANSWER)
            if response.status != 201 or "Location" not in response.headers:
                raise ClientFailed(f"{url} answers {response.status}: {_words(body)}")
            playback = response.headers.get("Livepeer-Playback-URL")
            location = response.url.join(URL(response.headers["Location"]))
            watched = None if playback is None else response.url.join(URL(playback))
            return location, watched, body.decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ClientFailed(f"{url} cannot be asked: {error or 'no answer in time'}") from error


def _words(body: bytes) -> str:
    """The detail of problem details, or the start of anything else."""
    try:
        problem = json.loads(body)
        return str(problem["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:200].decode(errors="replace")
