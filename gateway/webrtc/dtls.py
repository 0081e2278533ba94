"""The DTLS handshake (RFC 5763, RFC 5764) on OpenSSL's memory buffers: datagrams in and out, no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import (
    SRTP_PROFILES,
    X509_DIGEST_ALGORITHMS,
    SRTPProtectionProfile,
    certificate_digest,
)
from OpenSSL import SSL
from pylibsrtp import Policy

from gateway.webrtc.srtp import SrtpSession
from gateway.webrtc.udp import ignore

MTU = 1200
"""Limit in bytes of one datagram of the handshake; passes every path, tunnels included."""
MAX_RECORD = 16_384
"""Limit in bytes of one record's content (RFC 6347, 4.1)."""
REPLAY_WINDOW = 1024
_RECORD_HEADER = 13
_ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    109: "missing_extension",
    116: "certificate_required",
}
"""TLS alert descriptions (IANA's registry) that a handshake can end with."""


class DtlsRefused(Exception):
    """The handshake failed; the text says why."""


@dataclass(frozen=True)
class SrtpSessions:
    incoming: SrtpSession
    outgoing: SrtpSession


class DtlsSession:
    """One side of a DTLS association from which the SRTP keys are derived.

    `done` is set when the handshake is done, or fails with DtlsRefused; `srtp` is set in the same datagram
    callback. `on_closed` is called when the peer closes the association afterwards, `on_data` with each SCTP
    packet, where data channels were agreed (RFC 8261).
    """

    def __init__(
        self,
        *,
        send: Callable[[bytes], object],
        on_closed: Callable[[str], None],
        on_data: Callable[[bytes], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.srtp: SrtpSessions | None = None
        self._certificate = RTCCertificate.generateCertificate()
        self._server = True
        self._fingerprints: list[tuple[str, str]] = []
        self._send = send
        self._on_closed = on_closed
        self._on_data = on_data
        self._timer: asyncio.TimerHandle | None = None
        self._started = False
        self._closed = False
        self._alerts: list[str] = []
        context = self._certificate._create_ssl_context(srtp_profiles=SRTP_PROFILES)
        context.set_info_callback(_alert_noter(self._alerts))
        self._ssl = SSL.Connection(context)
        self._ssl.set_ciphertext_mtu(MTU)

    @property
    def fingerprint(self) -> tuple[str, str]:
        """Hash function and value of our certificate's digest, for the SDP."""
        own = self._certificate.getFingerprints()[0]
        return own.algorithm, own.value

    def start(self, *, server: bool, fingerprints: list[tuple[str, str]]) -> None:
        """Start the handshake, once datagrams can be sent; `fingerprints` are those of the peer's SDP."""
        self._server = server
        self._fingerprints = fingerprints
        if server:
            self._ssl.set_accept_state()
        else:
            self._ssl.set_connect_state()
        self._started = True
        self._advance()

    def receive(self, datagram: bytes) -> None:
        """Take one datagram of the peer."""
        if self._closed or not self._started:
            return
        self._ssl.bio_write(datagram)
        if self.done.done():
            self._read()
        else:
            self._advance()

    def send(self, data: bytes) -> None:
        """Send application data in one record. Raises ConnectionError where there is no association."""
        if self._closed or not self.done.done():
            raise ConnectionError("there is no DTLS association")
        try:
            self._ssl.send(data)
        except SSL.Error as error:
            raise ConnectionError(_words(error)) from error
        self._flush()

    def close(self) -> None:
        """Send close_notify if there was a handshake, and stop."""
        if self._closed:
            return
        self._stop_timer()
        if self._started:
            with suppress(SSL.Error):  # there is no association to close
                self._ssl.shutdown()
            self._flush()
        self._closed = True
        self.srtp = None
        self._fail("closed here before the handshake was done")
        self._send = self._on_closed = self._on_data = ignore

    def _advance(self) -> None:
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            self._flush()
            self._set_timer()
        except SSL.Error as error:
            self._flush()
            self._fail(f"the DTLS handshake was refused: {'; '.join([_words(error), *self._alerts])}")
        else:
            self._flush()
            self._set_timer()
            self._finish()

    def _finish(self) -> None:
        try:
            self._check_certificate()
            self.srtp = self._derive()
        except DtlsRefused as refusal:
            self._fail(str(refusal))
        else:
            if not self.done.done():
                self.done.set_result(None)

    def _fail(self, detail: str) -> None:
        self._stop_timer()
        if not self.done.done():
            self.done.set_exception(DtlsRefused(detail))
            self.done.exception()  # marks it as retrieved: nobody may be waiting any more

    def _read(self) -> None:
        try:
            while True:
                data = self._ssl.recv(MAX_RECORD)
                if self._on_data is not None:
                    self._on_data(data)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._on_closed("the peer closed the connection (DTLS close_notify)")
        except SSL.Error as error:
            self._on_closed(f"the DTLS association broke: {_words(error)}")
        self._flush()

    def _check_certificate(self) -> None:
        certificate = self._ssl.get_peer_certificate(as_cryptography=True)
        known = [(name, value) for name, value in self._fingerprints if name in X509_DIGEST_ALGORITHMS]
        if not known or certificate is None:
            raise DtlsRefused(
                "the offer's a=fingerprint lines use no hash function that is supported (sha-256)"
            )
        # An SDP may name several certificates, of which the peer uses one, each by several functions, of
        # which one is checked: who forges one of the lines gains nothing by the others (RFC 8122, 5).
        functions = [name for name, _ in known]
        function = "sha-256" if "sha-256" in functions else functions[0]
        if (function, certificate_digest(certificate, function)) not in known:
            raise DtlsRefused("the peer's certificate is not the one whose a=fingerprint its SDP gave")

    def _derive(self) -> SrtpSessions:
        chosen = self._ssl.get_selected_srtp_profile()
        profile = next((one for one in SRTP_PROFILES if one.openssl_profile == chosen), None)
        if profile is None:
            raise DtlsRefused("the peer offers no SRTP protection profile in DTLS (use_srtp)")
        material = self._ssl.export_keying_material(
            b"EXTRACTOR-dtls_srtp", 2 * (profile.key_length + profile.salt_length)
        )
        client, server = (profile.get_key_and_salt(material, index) for index in (0, 1))
        own, peer = (server, client) if self._server else (client, server)
        return SrtpSessions(
            incoming=SrtpSession(_policy(profile, peer, Policy.SSRC_ANY_INBOUND)),
            outgoing=SrtpSession(_policy(profile, own, Policy.SSRC_ANY_OUTBOUND)),
        )

    def _flush(self) -> None:
        """Send what OpenSSL wrote, as many whole records in a datagram as fit (RFC 6347, 4.1.1)."""
        written = bytearray()
        while True:
            try:
                written += self._ssl.bio_read(65536)
            except SSL.Error:
                break
        begin = end = 0
        while end + _RECORD_HEADER <= len(written):
            record = _RECORD_HEADER + int.from_bytes(written[end + 11 : end + 13], "big")
            if end > begin and end + record - begin > MTU:
                self._send(bytes(written[begin:end]))
                begin = end
            end += record
        if end > begin:
            self._send(bytes(written[begin:end]))

    def _set_timer(self) -> None:
        self._stop_timer()
        seconds = self._ssl.DTLSv1_get_timeout()
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self._repeat)

    def _repeat(self) -> None:
        self._timer = None
        try:
            self._ssl.DTLSv1_handle_timeout()
        except SSL.Error as error:
            self._flush()
            self._fail(f"the DTLS handshake got no answer: {_words(error)}")
            return
        self._flush()
        self._set_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _policy(profile: SRTPProtectionProfile, key: bytes, ssrc_type: int) -> Policy:
    policy = Policy(key=key, ssrc_type=ssrc_type, srtp_profile=profile.libsrtp_profile)
    policy.allow_repeat_tx = True
    policy.window_size = REPLAY_WINDOW
    return policy


def _alert_noter(alerts: list[str]) -> Callable[[SSL.Connection, int, int], None]:
    """What OpenSSL calls with each alert, `code` being its level and description (RFC 8446, 6)."""

    def note(_: SSL.Connection, where: int, code: int) -> None:
        if where & SSL.SSL_CB_ALERT:
            way = "sent" if where & SSL.SSL_CB_WRITE else "received"
            name = _ALERTS.get(code & 0xFF, str(code & 0xFF))
            alerts.append(f"TLS alert {name} {way}")

    return note


def _words(error: SSL.Error) -> str:
    """OpenSSL's reasons, TLS alerts among them, from an error's queue."""
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return "; ".join(str(entry[-1]) for entry in queue)
    return str(error) or type(error).__name__
