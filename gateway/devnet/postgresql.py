"""A PostgreSQL for the nodes of a devnet, from Debian's packages, on a socket in its own folder only."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import asyncpg

from gateway.devnet.child_process import Child, ChildTiming, Ready
from gateway.private_files import make_folder

DATABASE = "ledger"
SUPERUSER = "postgres"
LOOK_INTERVAL = 0.05
CONNECT_TIMEOUT = 2.0
TIMING = ChildTiming(ready=60.0, stop=5.0)


async def make_postgresql(folder: Path, *, restart: bool) -> Child:
    """A server whose data are made in `folder`; its ready line has `url`, that of an empty database.

    The folder's path has to be short, since it holds a socket. Raises OSError.
    """
    binaries, data, user = _binaries(), folder / "data", _user()
    make_folder(folder)
    if user:
        shutil.chown(folder, SUPERUSER)
    initdb = await asyncio.create_subprocess_exec(
        *("setpriv", *user, "--pdeathsig", "KILL", str(binaries / "initdb"), "-D", str(data)),
        *("-U", SUPERUSER, "-A", "trust", "-N", "-E", "UTF8", "--no-locale"),
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await initdb.communicate()
    if initdb.returncode:
        raise OSError(f"initdb failed: {said.decode(errors='replace').strip()[-500:]}")

    def command(_: Ready | None) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": folder,
            "fsync": "off",  # what is lost with the machine is lost with the folder, too
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # SIGQUIT has it end at once, with its processes and shared memory
        return [
            *("setpriv", *user, "--pdeathsig", "QUIT"),
            str(binaries / "postgres"),
            "-D",
            str(data),
            *options,
        ]

    async def answers(process: asyncio.subprocess.Process) -> Ready | None:
        while process.returncode is None:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError):
                await _make_database(folder)
                return {"url": f"postgresql://{SUPERUSER}@/{DATABASE}?host={folder}"}
            await asyncio.sleep(LOOK_INTERVAL)
        return None

    return Child(
        "postgresql",
        command,
        restart=restart,
        timing=TIMING,
        when_ready=answers,
        log_file=folder / "server.log",
        stop_signal=signal.SIGINT,  # SIGTERM would wait for clients
    )


async def _make_database(folder: Path) -> None:
    connection = await asyncpg.connect(
        host=str(folder), user=SUPERUSER, database=SUPERUSER, timeout=CONNECT_TIMEOUT
    )
    try:
        with suppress(asyncpg.DuplicateDatabaseError):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()


def _binaries() -> Path:
    """The folder of the newest release's programs. Raises OSError."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version)
    if not found:
        raise OSError("PostgreSQL is not installed: run scripts/prepare cluster, or install it")
    return found[-1]


def _version(binaries: Path) -> int:
    name = binaries.parent.name
    return int(name) if name.isdecimal() else 0


def _user() -> tuple[str, ...]:
    """How setpriv is to change the user: PostgreSQL refuses to be root. Raises OSError."""
    if os.geteuid() != 0:
        return ()
    try:
        pwd.getpwnam(SUPERUSER)
    except KeyError:
        raise OSError(f"there is no user {SUPERUSER!r} for PostgreSQL, which refuses to be root") from None
    return ("--reuid", SUPERUSER, "--regid", SUPERUSER, "--clear-groups")
