"""The rows of revision 0004 out of those before: a payment with its steps becomes one row, and is summed.

Written for a million payments a minute: what SQL can do it does, and rows are read and written in pieces.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.util import await_only

MAX_WIN_PROB = 2**256 - 1
PIECE = 5000
MINUTE, DAY = 60 * 10**9, 86_400 * 10**9
KEPT_MINUTES = 49 * 60
MAX_STEPS, MAX_TEXT = 64, 300
MOST_DIGITS = 79
"""After the point, of a win probability: the smallest has two that count."""
OUTCOMES = ("credited", "handed_out", "uncertain", "refused", "unspent")
OUTCOME_OF = {
    "credited": 0, "handed_out": 1, "delivered": 2, "unknown": 2, "refused": 3, "withheld": 3, "signed": 4,
}  # fmt: skip
PAYMENT_COLUMNS = (
    "session", "number", "state", "tickets", "face_value", "win_prob", "first_nonce", "last_nonce",
    "recipient_rand_hash", "price", "wall_ns", "monotonic_ns", "course",
)  # fmt: skip

SESSIONS = """
    INSERT INTO sessions (id, run, stream, stream_id, request_id, publisher, sender, orchestrator_address,
        orchestrator_url, orchestrator_addr, manifest_id, price, ceiling, interval_ns,
        wall_ns, monotonic_ns, closed_wall_ns, reason, detail, owed)
    SELECT s.id, s.run, s.stream, s.stream_id, s.request_id, '', s.sender, s.orchestrator_address,
        s.orchestrator_url, s.orchestrator_addr,
        coalesce((SELECT p.manifest_id FROM old_payments p
            WHERE p.session_id = s.id AND p.number > 1 ORDER BY p.number LIMIT 1), ''),
        s.price, s.ceiling, s.interval_ns, s.wall_ns, s.monotonic_ns, c.wall_ns, c.reason, c.detail, c.owed
    FROM old_sessions s
    LEFT JOIN (SELECT session_id, min(id) AS id FROM old_steps WHERE step = 'closed' GROUP BY session_id) f
        ON f.session_id = s.id
    LEFT JOIN old_steps c ON c.id = f.id
    ORDER BY s.wall_ns, s.id
"""
UNREADABLE = """
    INSERT INTO signings (session, number, wall_ns, detail)
    SELECT s.number, CAST(substr(t.payment_id, length(t.session_id) + 2) AS INTEGER), t.wall_ns, t.detail
    FROM old_steps t JOIN sessions s ON s.id = t.session_id
    WHERE t.step = 'refused' AND NOT EXISTS (SELECT 1 FROM old_payments p WHERE p.id = t.payment_id)
    ORDER BY t.id
"""
LAST_ASKED = """
    SELECT payment_id, wall_ns, monotonic_ns FROM old_steps
    WHERE session_id = :id AND step = 'intended' ORDER BY id DESC LIMIT 1
"""
_PAYMENT = """
    p.session_id, p.number, p.tickets, p.face_value, p.win_prob, p.first_nonce, p.last_nonce,
    p.recipient_rand_hash, p.price
"""
# those of an index with the same key are in the order of their ids, and a column beside min() is that of the
# row with the minimum
SQLITE_ROWS = f"""
    SELECT {_PAYMENT}, group_concat(t.step), min(t.id), t.wall_ns, group_concat(t.monotonic_ns),
        CASE WHEN sum(t.detail > '') THEN
            (SELECT json_group_array(d.detail) FROM old_steps d INDEXED BY steps_payment
                WHERE d.payment_id = p.id) END
    FROM old_payments p CROSS JOIN old_steps t INDEXED BY steps_payment ON t.payment_id = p.id
    GROUP BY p.rowid ORDER BY p.rowid
"""  # noqa: S608
POSTGRESQL_ROWS = f"""
    SELECT {_PAYMENT}, t.steps, t.wall, t.monotonic, t.details FROM old_payments p JOIN (
        SELECT t.payment_id, min(t.id) AS first, string_agg(t.step, ',' ORDER BY t.id) AS steps,
            (array_agg(t.wall_ns ORDER BY t.id))[1] AS wall,
            array_agg(t.monotonic_ns ORDER BY t.id) AS monotonic,
            CASE WHEN max(t.detail) > '' THEN array_agg(t.detail ORDER BY t.id) END AS details
        FROM old_steps t WHERE t.payment_id IS NOT NULL GROUP BY t.payment_id
    ) t ON t.payment_id = p.id ORDER BY t.first
"""  # noqa: S608
USUAL = "intended,signed,delivered,credited"

Steps: TypeAlias = tuple[str, int, Sequence[int], Sequence[str] | None]
"""Of one payment, in their order: names, the first one's wall clock, their monotonic ones, details."""


def copy_rows(connection: Connection) -> None:
    """Fill the new tables from old_sessions, old_payments and old_steps."""
    connection.execute(sa.text(SESSIONS))
    connection.execute(sa.text(UNREADABLE))
    sessions = {
        row.id: (row.number, row.price, row.orchestrator_address)
        for row in connection.execute(sa.text("SELECT id, number, price, orchestrator_address FROM sessions"))
    }
    _copy_asked(connection)
    redeemed = {row[0] for row in connection.execute(sa.text("SELECT payment_id FROM redemptions"))}
    sums = _Sums(time.time_ns() // MINUTE - KEPT_MINUTES)
    write = _writer(connection)
    piece: list[tuple[Any, ...]] = []
    for payment, steps in _read(connection):
        session_id, number, tickets, face, probability, first, last, rand_hash, price, *_ = payment
        session, session_price, recipient = sessions[session_id]
        face_value, win_prob = int(face), int(probability)
        _, wall_ns, monotonic_ns, _ = steps
        state, course, signed = _course(number, steps)
        sums.take(session, recipient, signed, state, tickets, face_value, win_prob, "\nd" in course)
        if redeemed and (payment_id := f"{session_id}-{number}") in redeemed:
            query = sa.text("UPDATE redemptions SET signed_wall_ns = :at WHERE payment_id = :id")
            connection.execute(query, {"at": signed, "id": payment_id})
        piece.append(
            (
                session, number, state, tickets, _bytes(face_value), _bytes(win_prob), first, last,
                bytes.fromhex(rand_hash), None if price == session_price else price,
                wall_ns, monotonic_ns[0], course,
            )
        )  # fmt: skip
        if len(piece) == PIECE:
            write(piece)
            piece = []
    write(piece)
    sums.write(connection)


def _read(connection: Connection) -> Iterator[tuple[Sequence[Any], Steps]]:
    """Every payment with its steps, in the order of signing; by the driver, which takes half of the time."""
    driver: Any = connection.connection.driver_connection
    return _read_sqlite(driver) if connection.dialect.name == "sqlite" else _read_postgresql(driver)


def _read_sqlite(driver: Any) -> Iterator[tuple[Sequence[Any], Steps]]:
    cursor = driver.execute(SQLITE_ROWS)
    while rows := cursor.fetchmany(PIECE):
        for row in rows:
            names, _, wall, monotonic, details = row[9:]
            times = [int(at) for at in monotonic.split(",")]
            yield row, (names, wall, times, None if details is None else json.loads(details))
    cursor.close()


def _read_postgresql(driver: Any) -> Iterator[tuple[Sequence[Any], Steps]]:
    await_only(driver.execute("ANALYZE old_payments, old_steps"))
    # a cursor is planned for its first rows by default, and sorting a million of them would go to the disk
    await_only(driver.execute("SET LOCAL cursor_tuple_fraction = 1; SET LOCAL work_mem = '64MB'"))
    # a cursor of our own: the driver closes its own too late, and a table that is read cannot be dropped
    await_only(driver.execute(f"DECLARE old_rows NO SCROLL CURSOR FOR {POSTGRESQL_ROWS}"))
    while rows := await_only(driver.fetch(f"FETCH {PIECE} FROM old_rows")):
        for row in rows:
            yield row, row[9:]
    await_only(driver.execute("CLOSE old_rows"))


def _writer(connection: Connection) -> Callable[[list[tuple[Any, ...]]], None]:
    """What adds payments, in the driver's own way: a million statements would take minutes."""
    driver: Any = connection.connection.driver_connection

    def write_sqlite(rows: list[tuple[Any, ...]]) -> None:
        names, places = ", ".join(PAYMENT_COLUMNS), ", ".join("?" * len(PAYMENT_COLUMNS))
        driver.executemany(f"INSERT INTO payments ({names}) VALUES ({places})", rows)  # noqa: S608

    def write_postgresql(rows: list[tuple[Any, ...]]) -> None:
        await_only(driver.copy_records_to_table("payments", records=rows, columns=PAYMENT_COLUMNS))

    return write_sqlite if connection.dialect.name == "sqlite" else write_postgresql


def _copy_asked(connection: Connection) -> None:
    """What the signer was asked for last, in sessions that a crash left open: it may have been billed."""
    still_open = sa.text("SELECT number, id FROM sessions WHERE closed_wall_ns IS NULL")
    for number, session_id in connection.execute(still_open).all():
        asked = connection.execute(sa.text(LAST_ASKED), {"id": session_id}).first()
        if asked is not None:
            query = sa.text(
                "UPDATE sessions SET asked_number = :asked, asked_wall_ns = :wall,"
                " asked_monotonic_ns = :monotonic WHERE number = :number"
            )
            payment = int(asked.payment_id.rpartition("-")[2])
            times = {"wall": asked.wall_ns, "monotonic": asked.monotonic_ns}
            connection.execute(query, {"asked": payment, "number": number, **times})


def _course(number: int, steps: Steps) -> tuple[str, str, int]:
    """A payment's state, its course, and when it was signed by the wall clock."""
    names, wall, times, details = steps
    asked = times[0]
    if names == USUAL and details is None and asked <= min(times):  # nearly all
        _, signed, delivered, credited = times
        after = (signed - asked) // 10**6
        course = f"s{after}\nd{(delivered - asked) // 10**6}\nc{(credited - asked) // 10**6}"
        return "credited", course, wall + after * 10**6
    taken = names.split(",")
    no = "withheld" if "delivered" not in taken else "handed_out" if number == 1 else "refused"
    lines, last, signed_ns = [], "signed", wall
    for name, at, detail in zip(taken, times, details or [""] * len(taken), strict=True):
        if name == "intended":
            continue
        last = no if name == "refused" else name
        after = max(0, at - asked) // 10**6
        if name == "signed":
            signed_ns = wall + after * 10**6
        lines.append(f"{last[0]}{after} {_clean(detail)}" if detail else f"{last[0]}{after}")
    state = "credited" if "credited" in taken else no if "refused" in taken else last
    return state, "\n".join([*lines[: MAX_STEPS - 1], *lines[MAX_STEPS - 1 :][-1:]]), signed_ns


class _Sums:
    """What the payments make together."""

    def __init__(self, first_minute: int) -> None:
        self._first_minute = first_minute
        self._days: dict[tuple[int, int], list[int]] = {}
        self._draws: dict[tuple[int, str, str], list[int]] = {}
        self._minutes: dict[int, int] = {}
        self._chances = _Chances()

    def take(
        self,
        session: int,
        recipient: str,
        signed: int,
        state: str,
        tickets: int,
        face_value: int,
        win_prob: int,
        delivered: bool,
    ) -> None:
        day, value = signed // DAY, tickets * face_value * win_prob
        sums = self._days.get((session, day))
        if sums is None:
            sums = self._days[session, day] = [0] * (2 + len(OUTCOMES))
        sums[0] += 1
        sums[1] += tickets
        sums[2 + OUTCOME_OF[state]] += value
        minute = signed // MINUTE
        if minute >= self._first_minute and state != "withheld":
            self._minutes[minute] = self._minutes.get(minute, 0) + value
        if delivered:
            place = day, recipient, self._chances.of(win_prob)
            drawn = self._draws.get(place)
            if drawn is None:
                drawn = self._draws[place] = [0] * 4
            drawn[0] += tickets
            drawn[1] += tickets * win_prob
            drawn[2] += value
            drawn[3] += value * face_value * (MAX_WIN_PROB - win_prob)

    def write(self, connection: Connection) -> None:
        days = [
            (session, _day(day), *sums[:2], *map(_bytes, sums[2:]))
            for (session, day), sums in self._days.items()
        ]
        _insert(connection, "session_days", ("session", "day", "payments", "tickets", *OUTCOMES), days)
        draws = [
            (_day(day), recipient, chance, sums[0], *map(_bytes, sums[1:]))
            for (day, recipient, chance), sums in self._draws.items()
        ]
        names = ("day", "recipient", "chance", "tickets", "win_probs", "value", "variance")
        _insert(connection, "draws", names, draws)
        minutes = [(minute, "", _bytes(value)) for minute, value in self._minutes.items()]
        _insert(connection, "minutes", ("minute", "publisher", "value"), minutes)


class _Chances:
    """Win probabilities to two digits: `12e-4` is 0.0012. All that there are, as a search is much faster."""

    def __init__(self) -> None:
        digits = [(two, point) for point in range(MOST_DIGITS, 1, -1) for two in range(10, 100)]
        digits.append((10, 1))
        self._names = ["0", *(f"{two}e-{point}" for two, point in digits)]
        self._lowest = [-(-two * MAX_WIN_PROB // 10**point) for two, point in digits]

    def of(self, win_prob: int) -> str:
        return self._names[bisect_right(self._lowest, win_prob)]


def _insert(connection: Connection, table: str, names: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
    statement = sa.insert(sa.table(table, *(sa.column(name) for name in names)))
    for start in range(0, len(rows), PIECE):
        piece = rows[start : start + PIECE]
        connection.execute(statement, [dict(zip(names, row, strict=True)) for row in piece])


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _day(days: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(days * 86_400))


def _clean(text: str) -> str:
    line = text[:MAX_TEXT].replace("\n", " ")
    return "".join(one if one.isprintable() else "?" for one in line)
