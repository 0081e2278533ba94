"""Connections that fail leave every other descriptor alone."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from gateway.aio import event_loop


def test_a_connection_that_is_reset_as_its_tls_begins_keeps_no_number_of_a_descriptor() -> None:
    async def connect() -> int:
        context = ssl.create_default_context()
        with socket.socket() as sock:
            with socket.create_server(("127.0.0.1", 0)) as server:
                sock.connect(server.getsockname())
            # nobody accepted it before the server was gone, so it is reset
            sock.setblocking(False)
            with pytest.raises(ConnectionError):
                await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, sock=sock, ssl=context, server_hostname="nobody"
                )
            return sock.fileno()

    assert event_loop.run(connect()) == -1
