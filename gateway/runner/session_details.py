"""What the ledger's database keeps of a session on a live runner beside its payments: secrets among it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, TypeVar

from gateway.aio.inside import Reach
from gateway.payments.saved_jobs import JobDetails
from gateway.runner.app_start import AppChannels
from gateway.runner.offer import RunnerOffer, Unit
from gateway.runner.payee import SessionPayee
from gateway.runner.reserve import RunnerSession
from gateway.stream.seam import Json, OrchestratorRef, PublishRequest

RUNNER = "runner"
"""What this kind of job is called, by publishers, in status and in the database."""
_OFFER = ("url", "app", "version", "gpu")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class SessionDetails:
    """A session on the runner of `offer`."""

    offer: RunnerOffer
    payment_url: str = field(repr=False)
    session: RunnerSession | None = None
    """None until it is reserved."""
    channels: AppChannels | None = None
    """None until the app has started."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """The stream's parameters that the app has."""

    def json(self, request: PublishRequest, last_update: Mapping[str, Any] | None) -> Json:
        """All of it, with who published and the newest update."""
        offer = self.offer
        return {
            "kind": RUNNER,
            "publish": request.json(),
            "last_update": None if last_update is None else dict(last_update),
            "offer": {
                **{name: getattr(offer, name) for name in _OFFER},
                "unit": str(offer.unit or ""),
                "price": str(offer.price or 0),
            },
            "payment_url": self.payment_url,
            "session": None if self.session is None else asdict(self.session),
            "channels": None if self.channels is None else asdict(self.channels),
            "params": dict(self.params),
        }

    @classmethod
    def parse(cls, details: Json, reach: Reach) -> SessionDetails:
        """`reach` is where the session's URLs may lead. Raises ValueError."""
        offer = _texts(details.get("offer"), (*_OFFER, "unit", "price"))
        params, url = details.get("params"), details.get("payment_url")
        if not isinstance(params, dict) or not isinstance(url, str):
            raise ValueError("a session has parameters, and a URL for payments")
        unit, price = offer.pop("unit"), offer.pop("price")
        try:
            amount = Fraction(price)
        except ZeroDivisionError as error:
            raise ValueError("the price is no number") from error
        return cls(
            offer=RunnerOffer(
                url=offer["url"],
                app=offer["app"],
                version=offer["version"],
                gpu=offer["gpu"],
                unit=Unit(unit) if unit else None,
                price=amount,
                reach=reach,
            ),
            payment_url=url,
            session=_read(RunnerSession, details.get("session")),
            channels=_channels(details.get("channels")),
            params=params,
        )


def shown(offer: RunnerOffer, payee: SessionPayee | None) -> OrchestratorRef:
    """What status tells of a session: nothing that is secret."""
    info = None if payee is None else payee.challenge.info
    return OrchestratorRef(
        url=offer.url,
        address="" if info is None else info.address,
        price=offer.price if info is None else info.price,
        kind=RUNNER,
        app=offer.app,
        version=offer.version,
        gpu=offer.gpu,
    )


class KeptSession:
    """Keeps a session's details up to date in what is written with each payment.

    Where nothing is paid, nothing is written.
    """

    def __init__(self, request: PublishRequest) -> None:
        self.written = JobDetails({})
        self.now: SessionDetails | None = None
        """None until it is about to be paid."""
        self._request = request

    def begin(self, now: SessionDetails, last_update: Mapping[str, Any] | None = None) -> None:
        self.now = now
        self.written.details = now.json(self._request, last_update)

    def reserved(self, session: RunnerSession) -> None:
        if self.now is not None:
            self.begin(replace(self.now, session=session))

    def app_has(self, channels: AppChannels | None, params: Mapping[str, Any], *, updated: bool) -> None:
        """The app has these of the stream's parameters, and None or these channels, if they are new."""
        if self.now is not None:
            now = replace(self.now, channels=channels or self.now.channels, params=params)
            self.begin(now, params if updated else None)


def _channels(value: object) -> AppChannels | None:
    """As `_read`; there was no channel of sound in details of an older gateway."""
    return _read(AppChannels, {"sound": "", **value} if isinstance(value, dict) else value)


def _read(kind: type[_T], value: object) -> _T | None:
    names = tuple(one.name for one in fields(kind))  # type: ignore[arg-type]
    return None if value is None else kind(**_texts(value, names))


def _texts(value: object, names: tuple[str, ...]) -> dict[str, str]:
    if (
        not isinstance(value, dict)
        or set(value) != set(names)
        or not all(isinstance(one, str) for one in value.values())
    ):
        raise ValueError(f"there is no {', '.join(names)}")
    return dict(value)
