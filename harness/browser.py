"""Debian's Chromium, with a fake camera and microphone and nothing else turned on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright, expect

from harness.waiting import DEADLINE

CHROMIUM = "/usr/bin/chromium"
expect.set_options(timeout=1000 * DEADLINE)
FLAGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",
]


@asynccontextmanager
async def chromium(*flags: str, path: str = CHROMIUM) -> AsyncIterator[Browser]:
    """A browser that is closed at the end; a machine without Chromium is an error, not a skip."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            await browser.close()


PUBLISH = """async ({url, profile, audio, width, height, fps, layers}) => {
  const media = await navigator.mediaDevices.getUserMedia({
    video: {width, height, frameRate: fps}, audio});
  const peer = window.publishing = new RTCPeerConnection();
  for (const track of media.getTracks())
    peer.addTransceiver(track, {direction: 'sendonly', streams: [media],
      sendEncodings: track.kind === 'video' ? layers : undefined});
  const video = peer.getTransceivers().find(one => one.sender.track.kind === 'video');
  const codecs = RTCRtpSender.getCapabilities('video').codecs;
  const chosen = codecs.filter(one => one.mimeType === 'video/H264'
    && one.sdpFmtpLine.includes('profile-level-id=' + profile)
    && one.sdpFmtpLine.includes('packetization-mode=1'));
  if (!chosen.length) throw new Error('no profile ' + profile);
  video.setCodecPreferences([...chosen, ...codecs.filter(one => one.mimeType === 'video/rtx')]);
  await peer.setLocalDescription(await peer.createOffer());
  const answer = await fetch(url, {method: 'POST', body: peer.localDescription.sdp,
    headers: {'Content-Type': 'application/sdp'}});
  if (answer.status !== 201) return answer.status;
  window.location_ = answer.headers.get('Location');
  await peer.setRemoteDescription({type: 'answer', sdp: await answer.text()});
  return answer.status;
}"""
"""Publish the camera with one H.264 profile, in simulcast `layers` if any; the status of the POST."""

WATCH = """async url => {
  const peer = window.watching = new RTCPeerConnection();
  const stream = new MediaStream(), video = document.createElement('video');
  video.muted = true; video.autoplay = true; video.srcObject = stream; video.id = 'watching';
  document.body.append(video);
  peer.ontrack = event => stream.addTrack(event.track);
  peer.addTransceiver('video', {direction: 'recvonly'});
  peer.addTransceiver('audio', {direction: 'recvonly'});
  await peer.setLocalDescription(await peer.createOffer());
  const answer = await fetch(url, {method: 'POST', body: peer.localDescription.sdp,
    headers: {'Content-Type': 'application/sdp'}});
  await peer.setRemoteDescription({type: 'answer', sdp: await answer.text()});
  return answer.status;
}"""

RECEIVED = """async () => {
  const found = {};
  for (const report of (await window.watching.getStats()).values())
    if (report.type === 'inbound-rtp')
      found[report.kind] = {frames: report.framesDecoded, width: report.frameWidth,
        packets: report.packetsReceived, samples: report.totalSamplesReceived};
  return found;
}"""
"""What was received so far, by kind."""

SENT = """async () => {
  const reports = [...(await window.publishing.getStats()).values()];
  const sent = reports.find(one => one.type === 'outbound-rtp' && one.kind === 'video');
  const told = reports.find(one => one.type === 'remote-inbound-rtp' && one.kind === 'video');
  const path = reports.find(one => one.type === 'candidate-pair' && one.nominated);
  return sent && {width: sent.frameWidth, fps: sent.framesPerSecond, bytes: sent.bytesSent,
    target: sent.targetBitrate, limited: sent.qualityLimitationReason,
    estimate: path?.availableOutgoingBitrate, round_trip: told?.roundTripTime, lost: told?.packetsLost};
}"""
"""The encoder's figures now, and what its congestion control takes the path for."""


def noisy_camera(path: Path, *, width: int = 1280, height: int = 720, frames: int = 30) -> Path:
    """A camera's film of noise over a gradient: nothing in it is easy to code."""
    import numpy as np

    chance = np.random.default_rng(5)
    gradient = np.linspace(40, 200, width, dtype=np.float32)[None, :]
    with path.open("wb") as film:
        film.write(f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420\n".encode())
        for number in range(frames):
            noise = chance.normal(0, 12, (height, width))
            luma = np.roll(gradient, number * 8, axis=1) + noise
            film.write(b"FRAME\n" + np.clip(luma, 16, 235).astype(np.uint8).tobytes())
            film.write(bytes([128]) * (width * height // 2))
    return path
