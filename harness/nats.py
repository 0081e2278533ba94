"""A real nats-server with JetStream in a folder of its own, from Debian's package."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_DEADLINE = 30.0


def binary() -> str:
    """Debian puts it where the path of a plain user does not look."""
    return shutil.which("nats-server") or "/usr/sbin/nats-server"


class NatsServer:
    """A server on one port of the loopback interface, which it keeps over `stop` and `start`."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self._folder = folder
        self._port = port
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self._folder / "server.log").read_text()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", binary()),
                *("--addr", "127.0.0.1", "--port", str(self._port)),
                *("--jetstream", "--store_dir", self._folder, "--log", self._folder / "server.log"),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + START_DEADLINE
        while not self._listens():
            assert self._process.poll() is None, f"nats-server ended:\n{self.log}"
            assert time.monotonic() < until, f"nats-server does not listen:\n{self.log}"
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: it is there and does not answer."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of the loopback interface on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def nats_server(*options: str) -> Iterator[NatsServer]:
    """Start a server; end it and remove its folder at the end. `options` go to nats-server."""
    folder = Path(tempfile.mkdtemp(prefix="nats-", dir="/tmp"))
    server = NatsServer(folder, free_port(), *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)
