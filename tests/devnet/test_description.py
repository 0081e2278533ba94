"""A devnet's description in a file, and ports that are kept for others."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gateway.devnet.description import VARIABLE, described_devnet, write_description
from gateway.devnet.reserved_port import reserved_port


def test_a_described_devnet_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "devnet.json"
    assert described_devnet({}) is None
    write_description(path, {"signer_pid": 1})
    described = described_devnet({VARIABLE: str(path)})
    assert described is not None
    assert described() == {"signer_pid": 1}
    write_description(path, {"signer_pid": 2})
    assert described() == {"signer_pid": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_a_reserved_port_is_for_those_who_share_it() -> None:
    with reserved_port("127.0.0.1", 0) as port, socket.socket() as other, socket.socket() as sharing:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sharing.bind(("127.0.0.1", port))
        sharing.listen()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            accepted, address = sharing.accept()
            accepted.close()
            assert address == connection.getsockname()
