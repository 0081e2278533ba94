"""The certificate of `-httpsCert` and `-httpsKey`, loaded again when the files change."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from gateway.aio.stamp import Stamp, stamp

log = structlog.get_logger("https")


class Certificate:
    """The files and the newest context made of them. Raises OSError where they cannot be used."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._files = (chain, key)
        self._seen = self._stamps()
        self._newest = self._load()

    def context(self) -> ssl.SSLContext:
        """The context for a server. Each new connection gets the newest certificate."""
        context = self._load()
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called by OpenSSL in every handshake, with or without a server name."""
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps  # useless files are tried once: a half-written pair changes again
            try:
                self._newest = self._load()
                log.info("certificate loaded", file=str(self._files[0]))
            except OSError as error:
                log.error(
                    "certificate cannot be loaded, the old one stays in use",
                    file=str(self._files[0]),
                    error=str(error),
                )
        connection.context = self._newest

    def _stamps(self) -> list[Stamp | None]:
        return [_stamp(path) for path in self._files]

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self._files)
        return context


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp(path)
    except OSError:
        return None
