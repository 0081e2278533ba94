"""The connection to NATS: publish, subscribe, ask and answer. Only this module and bucket.py know nats-py.

A lost connection is replaced by a new client, and nats-py's own reconnect is cut off: it waits until the old
socket is flushed, for minutes where a cable is cut, and some errors of the server end it for good.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from gateway.aio.tasks import cancel, spawn
from gateway.cluster.errors import Backlogged, ClusterAway, ClusterError, NoAnswerInTime, NobodyAnswers
from gateway.cluster.pieces import Pieces, split
from gateway.cluster.settings import Credentials
from gateway.cluster.subjects import Subjects
from gateway.flags import without_userinfo

log = structlog.get_logger("cluster")

MAX_BACKLOG = 8 * 1024 * 1024
"""Bytes that wait to be sent; what comes above is dropped."""
MAX_WAITING_MESSAGES = 4096
MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Limits of what came in for one subscription and was not handled yet; what comes above is dropped."""
CONNECT_TIMEOUT = 2.0
PING_INTERVAL = 1
MAX_OUTSTANDING_PINGS = 2
"""A connection is lost when NATS answers no ping for 3 s."""
RECONNECT_PAUSE = 0.25
LOOK_INTERVAL = 0.25
"""Seconds between two looks at whether it is still connected: nats-py may never say that it is not."""
NO_RESPONDERS = {"Status": "503"}
ACKNOWLEDGED = "Acknowledged"
"""Header of a message that says only that a request came in."""
ANSWER_TIMEOUT = 5.0
SIGN_LOOK = 0.1
"""Seconds without a sign after which a request's subject is asked whether anybody is there, and again."""

Handler = Callable[["BusMessage"], None]


@dataclass(frozen=True, slots=True)
class BusMessage:
    """A message as it came in."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    reply: str
    """Where an answer goes; empty: none is expected."""


@dataclass(eq=False)
class BusSubscription:
    """Interest in a subject, which lasts over reconnects until `close`."""

    subject: str
    handler: Handler
    _bus: Bus
    client: Client | None = field(default=None, init=False)
    """Where it was announced last."""
    _current: Subscription | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    async def attach(self, client: Client) -> None:
        """Announce it on a new connection. Raises nats-py's errors and OSError."""

        async def take(message: Msg) -> None:
            self.handler(BusMessage(message.subject, message.data, message.headers or {}, message.reply))

        self.client = client
        self._current = await client.subscribe(
            self.subject,
            cb=take,
            pending_msgs_limit=MAX_WAITING_MESSAGES,
            pending_bytes_limit=MAX_WAITING_BYTES,
        )
        if self._closed:
            await self.close()

    async def close(self) -> None:
        """Nothing more comes to the handler but what has come in already, also where NATS is away."""
        self._closed = True
        self._bus.forget(self)
        current, self._current = self._current, None
        if current is not None:
            with suppress(nats.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await current.drain()  # type: ignore[no-untyped-call]


@dataclass(eq=False)
class _Asked:
    answer: asyncio.Future[bytes]
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first sign of whoever answers."""
    pieces: Pieces = field(default_factory=Pieces)

    def take(self, message: BusMessage) -> None:
        if self.answer.done():
            return
        self.taken.set()
        if ACKNOWLEDGED in message.headers:
            return
        if message.headers.get("Status") == NO_RESPONDERS["Status"] and not message.data:
            self.answer.set_exception(NobodyAnswers("nobody answers requests on this subject"))
            return
        try:
            whole = self.pieces.add(message.headers, message.data)
        except NoAnswerInTime as error:
            self.answer.set_exception(error)
        else:
            if whole is not None:
                self.answer.set_result(whole)


class Bus:
    """A connection that is kept while the context lasts. It starts without NATS, too, and goes on trying."""

    def __init__(
        self,
        servers: Sequence[str],
        subjects: Subjects,
        *,
        name: str = "",
        credentials: Credentials | None = None,
    ) -> None:
        self.subjects = subjects
        self._servers = list(servers)
        self._name = name
        self._credentials = credentials or Credentials()
        self._client: Client | None = None
        self._subscriptions: set[BusSubscription] = set()
        self._watchers: list[Callable[[bool], None]] = []
        self._asked: dict[str, _Asked] = {}
        self._inbox = secrets.token_hex(8)
        self._answers = BusSubscription(subjects.inbox(f"{self._inbox}.*"), self._answered, self)
        self._subscriptions.add(self._answers)
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._said_away: bool | None = None
        self._problem = ""
        self._closing = False
        self.dropped = 0
        """Messages that came in faster than they were handled."""

    async def __aenter__(self) -> Bus:
        self._task = spawn(self._run(), name="cluster bus")
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT + 1):
                await self._tried.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True  # nats-py may swallow the cancellation
        await cancel(self._task)
        for asked in self._asked.values():
            if not asked.answer.done():
                asked.answer.set_exception(ClusterAway("the gateway stops"))
                asked.taken.set()

    @property
    def connected(self) -> bool:
        return self._client is not None

    @property
    def problem(self) -> str:
        """What NATS or nats-py complained of last on this connection; empty: of nothing."""
        return self._problem

    @property
    def client(self) -> Client:
        """nats-py's, for the buckets. Raises ClusterAway."""
        if self._client is None or not self._client.is_connected:
            raise ClusterAway("NATS cannot be reached")
        return self._client

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent."""
        return 0 if self._client is None else self._client.pending_data_size

    def watch(self, changed: Callable[[bool], None]) -> None:
        """Have `changed` called with whether NATS is connected, now where it is and then at each change."""
        self._watchers.append(changed)
        if self.connected:
            changed(True)

    async def publish(
        self, subject: str, data: bytes = b"", *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send one message, at most once, of at most NATS's 1 MiB. Raises ClusterAway and Backlogged."""
        client = self.client
        if client.pending_data_size > MAX_BACKLOG:
            raise Backlogged(f"more than {MAX_BACKLOG} bytes wait to be sent to NATS")
        try:
            await client.publish(subject, data, reply=reply, headers=dict(headers) if headers else None)
        except (nats.errors.Error, OSError) as error:
            raise ClusterAway(f"NATS took no message: {error}") from None

    async def subscribe(self, subject: str, handler: Handler) -> BusSubscription:
        """Have `handler`, which must not block, called with each message, over reconnects too.

        Does not fail where NATS is away: the interest is announced when it comes back.
        """
        subscription = BusSubscription(subject, handler, self)
        self._subscriptions.add(subscription)
        if self._client is not None:
            with suppress(nats.errors.Error, OSError):  # the connection is about to be replaced
                await subscription.attach(self._client)
        return subscription

    def forget(self, subscription: BusSubscription) -> None:
        self._subscriptions.discard(subscription)

    async def ask(
        self, subject: str, data: bytes = b"", *, timeout: float = ANSWER_TIMEOUT, sign: float | None = None
    ) -> bytes:
        """The answer to a request, of up to MAX_BYTES as itself.

        `timeout` is in seconds, for all of it; `sign` for the first piece or the acknowledgement. Until
        that comes, empty requests are sent, too: if nobody takes those, who took this one has died.
        Raises NobodyAnswers, NoAnswerInTime, MessageTooLarge, Backlogged and ClusterAway.
        """
        token = secrets.token_hex(12)
        asked = self._asked[token] = _Asked(asyncio.get_running_loop().create_future())
        try:
            await self._publish_pieces(subject, data, reply=self.subjects.inbox(f"{self._inbox}.{token}"))
            async with asyncio.timeout(timeout) as whole:
                async with asyncio.timeout(sign):
                    await self._taken(asked, subject if sign is not None else None)
                return await asked.answer
        except TimeoutError:
            late = f"no answer within {timeout:g} s" if whole.expired() else f"no sign within {sign:g} s"
            raise NoAnswerInTime(late, taken=asked.taken.is_set()) from None
        finally:
            del self._asked[token]
            if asked.answer.done() and not asked.answer.cancelled():
                asked.answer.exception()  # it may have come too late for anybody to see it

    async def _taken(self, asked: _Asked, subject: str | None) -> None:
        """Wait for the first sign. Raises NobodyAnswers where nobody is left on `subject` to give one.

        NATS hands a request to a node that was killed until it has seen the connection end.
        """
        while subject is not None and not asked.taken.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(SIGN_LOOK):
                    await asked.taken.wait()
                return
            try:
                await self.ask(subject, timeout=SIGN_LOOK)
            except NobodyAnswers:
                if not asked.taken.is_set():
                    raise
            except ClusterError:
                pass
        await asked.taken.wait()

    async def answer(self, reply: str, data: bytes) -> None:
        """Answer a request whose message had this `reply`. Raises as `ask` does while it sends."""
        await self._publish_pieces(reply, data)

    async def acknowledge(self, reply: str) -> None:
        """Say that a request came in whose answer may take long. Raises as `publish` does."""
        await self.publish(reply, headers={ACKNOWLEDGED: "1"})

    async def flush(self, timeout: float = CONNECT_TIMEOUT) -> None:
        """Wait until NATS has taken all that was sent, and all subscriptions. Raises ClusterAway."""
        try:
            async with asyncio.timeout(timeout):
                await _flush(self.client)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise ClusterAway(f"NATS does not answer: {error}") from None

    async def _publish_pieces(self, subject: str, data: bytes, *, reply: str = "") -> None:
        for headers, part in split(data):
            await self.publish(subject, part, headers=headers, reply=reply)

    def _answered(self, message: BusMessage) -> None:
        asked = self._asked.get(message.subject.rpartition(".")[2])
        if asked is not None:
            asked.take(message)

    async def _run(self) -> None:
        """Connect again and again until cancelled."""
        while not self._closing:
            client, lost, self._problem = Client(), asyncio.Event(), ""
            try:
                await self._connect(client, lost)
            except (nats.errors.Error, OSError, TimeoutError) as error:
                self._say(self._problem or str(error) or type(error).__name__)
                self._tried.set()
            else:
                self._say("")
                self._tried.set()
                self._tell(True)
                try:
                    while client.is_connected and not lost.is_set() and not self._closing:
                        with suppress(TimeoutError):
                            async with asyncio.timeout(LOOK_INTERVAL):
                                await lost.wait()
                finally:
                    self._client = None
                    self._tell(False)
                self._say(self._problem or "it does not answer")
            finally:
                await _close(client)
            self._fail_asked()
            await asyncio.sleep(RECONNECT_PAUSE)

    async def _connect(self, client: Client, lost: asyncio.Event) -> None:
        async def ended() -> None:
            lost.set()

        login = self._credentials
        async with asyncio.timeout(CONNECT_TIMEOUT * (len(self._servers) + 1)):
            await client.connect(
                self._servers,
                name=self._name,
                error_cb=self._error,
                closed_cb=ended,
                disconnected_cb=ended,
                allow_reconnect=True,  # else nats-py may leave the socket open
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=int(CONNECT_TIMEOUT),
                ping_interval=PING_INTERVAL,
                max_outstanding_pings=MAX_OUTSTANDING_PINGS,
                inbox_prefix=self.subjects.inbox(self._inbox),
                pending_size=0,  # nothing is kept for a connection to come: it would be stale
                user=login.user or None,
                password=login.password or None,
                token=login.token or None,
            )
            await self._attach_all(client)
            await _flush(client)
            await self._attach_all(client)  # those made meanwhile
            self._client = client

    async def _attach_all(self, client: Client) -> None:
        while missing := [one for one in self._subscriptions if one.client is not client]:
            for subscription in missing:
                await subscription.attach(client)

    async def _error(self, error: Exception) -> None:
        """What nats-py reports beside the errors that it raises."""
        if isinstance(error, nats.errors.SlowConsumerError):
            self.dropped += 1
        else:
            self._problem = str(error) or type(error).__name__

    def _say(self, problem: str) -> None:
        """Log that NATS is away, or there again, once and not at each attempt."""
        if bool(problem) == self._said_away:
            return
        self._said_away = bool(problem)
        servers = ",".join(without_userinfo(server) for server in self._servers)
        if problem:
            log.warning("NATS cannot be used", servers=servers, detail=problem)
        else:
            log.info("NATS connected", servers=servers)

    def _tell(self, connected: bool) -> None:
        for changed in self._watchers:
            changed(connected)

    def _fail_asked(self) -> None:
        for asked in self._asked.values():
            if not asked.answer.done():
                asked.answer.set_exception(ClusterAway("the connection to NATS was lost"))
                asked.taken.set()


async def _flush(client: Client) -> None:
    """Twice, as nats-py's ping overtakes what waits to be sent: the second one cannot."""
    await client.flush()
    await client.flush()


async def _close(client: Client) -> None:
    with suppress(Exception):
        async with asyncio.timeout(1.0):
            await client.close()
