"""A program that publishes with FFmpeg's whip muxer: URL, and files of a certificate and its key if any."""

from __future__ import annotations

import sys
import time

import av

FRAMES = 60


def main(url: str, *certificate: str) -> None:
    options = {"handshake_timeout": "8000"}
    if certificate:
        options["cert_file"], options["key_file"] = certificate
    output = av.open(url, "w", format="whip", options=options)
    video = output.add_stream("libx264", rate=30)
    video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
    video.codec_context.gop_size = 30
    video.options = {"tune": "zerolatency", "preset": "ultrafast", "profile": "baseline"}
    output.start_encoding()
    started = time.monotonic()
    for number in range(FRAMES):
        frame = av.VideoFrame(320, 180, "yuv420p")
        frame.pts, frame.time_base = number, video.codec_context.time_base
        output.mux(video.encode(frame))
        time.sleep(max(0.0, started + number / 30 - time.monotonic()))
    output.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
