"""GStreamer's webrtcbin publishing over WHIP: `gstreamer_publisher URL SECONDS`, with Debian's own Python.

Debian's webrtcbin has no WHIP element yet; this is what a script of a dozen lines makes of it.
"""

from __future__ import annotations

import sys
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

PIPELINE = """
webrtcbin name=webrtc bundle-policy=max-bundle
videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=30/1
  ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=1000
  ! video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 aggregate-mode=zero-latency
  ! application/x-rtp,media=video,encoding-name=H264,payload=96 ! webrtc.
audiotestsrc is-live=true ! opusenc ! rtpopuspay
  ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! webrtc.
"""


def main(url: str, seconds: int) -> None:
    Gst.init(None)
    loop = GLib.MainLoop()
    pipeline = Gst.parse_launch(PIPELINE)
    webrtc = pipeline.get_by_name("webrtc")

    def offered(promise: Gst.Promise, *_: object) -> None:
        reply = promise.get_reply()  # the offer lives in it
        offer = reply.get_value("offer")
        webrtc.emit("set-local-description", offer, Gst.Promise.new())

    def needed(*_: object) -> None:
        webrtc.emit("create-offer", None, Gst.Promise.new_with_change_func(offered, None))

    def gathered(*_: object) -> None:
        if webrtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            offer = webrtc.get_property("local-description").sdp.as_text()
            GLib.idle_add(post, offer)

    def post(offer: str) -> bool:
        request = urllib.request.Request(url, offer.encode(), {"Content-Type": "application/sdp"})
        with urllib.request.urlopen(request) as response:
            answer = response.read().decode()
        _, message = GstSdp.SDPMessage.new_from_text(answer)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        webrtc.emit("set-remote-description", description, Gst.Promise.new())
        GLib.timeout_add_seconds(seconds, loop.quit)
        return False

    webrtc.connect("on-negotiation-needed", needed)
    webrtc.connect("notify::ice-gathering-state", gathered)
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
