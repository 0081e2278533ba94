"""A real PostgreSQL server in a folder of its own, from Debian's packages."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

SUPERUSER = "postgres"


class PostgresqlServer:
    """A running server, reached through a socket in its folder."""

    def __init__(self, folder: Path, binaries: Path, user: str | None) -> None:
        self._folder = folder
        self._binaries = binaries
        self._user = user
        self._databases = 0

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, which refuse to be root."""
        subprocess.run(
            [self._binaries / program, *arguments],
            user=self._user,
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"ledger{self._databases}"
        self.run("createdb", "-h", str(self._folder), "-U", SUPERUSER, name)
        return f"postgresql://{SUPERUSER}@/{name}?host={self._folder}"

    @contextmanager
    def pooler(self, mode: str) -> Iterator[str]:
        """A pooler before the server, in a mode such as `transaction`; the URL of a new database there."""
        folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=self._folder))
        name = make_url(self.database()).database
        config = folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n{name} = host={self._folder} user={SUPERUSER}\n"
            f"[pgbouncer]\nunix_socket_dir={folder}\nlisten_addr=\n"
            f"auth_type=any\npool_mode={mode}\nlogfile={folder / 'log'}\n"
        )
        if self._user is not None:
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
        process = subprocess.Popen(
            ["pgbouncer", config],
            user=self._user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(500):
                if list(folder.glob(".s.PGSQL.*[0-9]")):
                    break
                time.sleep(0.01)
            yield f"postgresql://{SUPERUSER}@/{name}?host={folder}&port=6432"
        finally:
            process.terminate()
            process.wait()

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "-w", "stop")

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        log = str(self._folder / "server.log")
        self.run("pg_ctl", "-D", str(self._folder / "data"), "-o", options, "-l", log, "-w", "start")


@contextmanager
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Make and start a server; stop it and remove it at the end."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    user = SUPERUSER if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    server = PostgresqlServer(folder, binaries, user)
    try:
        server.run("initdb", "-D", str(folder / "data"), "-U", SUPERUSER, "-A", "trust", "-N", "-E", "UTF8")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
