"""What is kept of a session over a restart, and what cannot have been kept."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from gateway.aio.inside import PUBLIC
from gateway.runner.app_start import AppChannels
from gateway.runner.offer import RunnerOffer, Unit
from gateway.runner.reserve import RunnerSession
from gateway.runner.session_details import KeptSession, SessionDetails
from gateway.stream.seam import PublishRequest

REQUEST = PublishRequest("cam", "cam", "r1", "comfystream")
OFFER = RunnerOffer(
    url="https://orch.example/apps/a/session",
    app="livepeer-example/echo",
    version="1",
    gpu="L4",
    price=Fraction(10**15, 3),
    unit=Unit.SECONDS,
)
SESSION = RunnerSession("session_1", "https://orch.example/s/1/app", "https://orch.example/s/1")
CHANNELS = AppChannels("https://orch.example/t/in", "https://orch.example/t/out")
DETAILS = SessionDetails(
    offer=OFFER,
    payment_url="https://orch.example/s/1/payment",
    session=SESSION,
    channels=CHANNELS,
    params={"mode": "gray"},
)


def kept(details: SessionDetails) -> Any:
    return json.loads(json.dumps(details.json(REQUEST, {"mode": "gray"})))


@pytest.mark.parametrize(
    "details",
    [DETAILS, replace(DETAILS, channels=None), replace(DETAILS, session=None, channels=None, params={})],
    ids=["running", "warming up", "not reserved"],
)
def test_what_is_kept_is_read_again(details: SessionDetails) -> None:
    assert SessionDetails.parse(kept(details), PUBLIC) == details


def test_what_a_gateway_kept_that_knew_no_sound_is_read() -> None:
    older = kept(DETAILS)
    del older["channels"]["sound"]
    assert SessionDetails.parse(older, PUBLIC) == DETAILS


@pytest.mark.parametrize(
    "damage",
    [
        {"offer": None},
        {"offer": {}},
        {"offer": {**kept(DETAILS)["offer"], "price": "1/0"}},
        {"offer": {**kept(DETAILS)["offer"], "price": "dear"}},
        {"offer": {**kept(DETAILS)["offer"], "unit": "hours"}},
        {"payment_url": None},
        {"session": {}},
        {"session": {**kept(DETAILS)["session"], "id": 7}},
        {"channels": {"input": "https://orch.example/t/in"}},
        {"params": []},
    ],
    ids=str,
)
def test_what_cannot_have_been_kept_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        SessionDetails.parse({**kept(DETAILS), **damage}, PUBLIC)


def test_secrets_are_in_no_text_of_it() -> None:
    for secret in (SESSION.id, SESSION.control_url, CHANNELS.input, DETAILS.payment_url):
        assert secret not in repr(DETAILS)


def test_what_is_written_follows_the_session() -> None:
    session = KeptSession(REQUEST)
    session.app_has(CHANNELS, {"mode": "gray"}, updated=True)
    assert session.written.details == {}, "nothing is written of a session that costs nothing"
    session.begin(SessionDetails(offer=OFFER, payment_url=DETAILS.payment_url))
    session.reserved(SESSION)
    session.app_has(CHANNELS, {"mode": "gray"}, updated=False)
    assert SessionDetails.parse(session.written.details, PUBLIC) == DETAILS
    assert session.written.details["last_update"] is None
    session.app_has(None, {"mode": "blur"}, updated=True)
    assert SessionDetails.parse(session.written.details, PUBLIC) == replace(DETAILS, params={"mode": "blur"})
    assert session.written.details["last_update"] == {"mode": "blur"}
