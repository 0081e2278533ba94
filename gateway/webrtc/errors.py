"""Why a peer was refused or did not connect. The texts are for whoever runs that peer."""

from __future__ import annotations


class OfferRefused(Exception):
    """An SDP offer (or a fragment of one) that cannot be answered.

    `code` is one of `bad_sdp`, `no_video`, `no_common_codec`, `ice_restart` and `no_udp_port`; the text says
    what to change.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class ConnectFailed(Exception):
    """ICE or DTLS failed after the answer; the text says what to open or change."""
