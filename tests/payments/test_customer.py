"""Whom a stream is for: kept over a restart, in its sessions' rows, and before the signer."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.payments.customer import MAX_HEADERS, Customer, parse_markup
from gateway.payments.ledger import Ledger
from gateway.reason import Ended, EndReason
from gateway.stream.seam import PublishRequest
from gateway.telemetry.events import EventType
from signer_client import Rejected
from tests.payments.ledgers import record
from tests.payments.payers import ScriptedSigner, bench

HEADERS = {"Authorization": "Bearer of-ann-alone"}
ANN = Customer("ann", HEADERS, Fraction(6, 5))

customers = st.builds(
    Customer,
    st.text(max_size=20),
    st.dictionaries(
        st.from_regex(r"X-[A-Z]{1,8}", fullmatch=True),
        st.from_regex(r"[ -~]{0,20}", fullmatch=True),
        max_size=MAX_HEADERS,
    ),
    st.none() | st.fractions(min_value=Fraction(1, 10**6), max_value=10**6, max_denominator=10**6),
)


@given(customers)
def test_a_publish_keeps_its_customer_over_a_restart(customer: Customer) -> None:
    request = PublishRequest("cam", "cam", "1", "m", customer=customer)
    assert PublishRequest.parse(request.json()).customer == customer
    assert PublishRequest.parse({k: v for k, v in request.json().items() if k != "customer"})
    assert repr(request) == repr(replace(request, customer=replace(customer, signer_headers={})))


@pytest.mark.parametrize(
    "change",
    [
        {"name": 1},
        {"signer_headers": []},
        {"signer_headers": {"a": 1}},
        {"markup": "-1"},
        {"markup": 1.2},
        {"x": 1},
    ],
)
def test_a_customer_that_is_kept_otherwise_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"customer|header|mark-up"):
        Customer.parse({**ANN.json(), **change})


@given(st.fractions(min_value=Fraction(1, 10**9), max_value=10**9, max_denominator=10**9))
def test_a_mark_up_is_exact(markup: Fraction) -> None:
    assert parse_markup(str(markup)) == markup


def test_who_comes_back_with_other_headers_gets_another_job() -> None:
    former = PublishRequest("cam", "cam", "1", "m", customer=ANN)
    assert replace(former, request_id="2").continues(former)
    other = replace(ANN, signer_headers={"Authorization": "Bearer new"})
    assert not replace(former, customer=other).continues(former)


@pytest.mark.asyncio
async def test_every_call_of_a_session_is_the_customers_and_its_row_names_it(tmp_path: Path) -> None:
    async with bench(tmp_path, ScriptedSigner(60), customer=ANN) as b:
        await b.start()
        await b.run_until(lambda: len(b.signer.calls) == 3)
        assert [call["headers"] for call in b.signer.calls[:3]] == [HEADERS] * 3
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as connection:
        assert connection.execute("SELECT customer, markup FROM sessions").fetchall() == [("ann", "6/5")]
        dump = "\n".join(connection.iterdump())
    assert "of-ann-alone" not in dump


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [401, 402, 403, 483])
async def test_a_refusal_has_the_signers_words_and_the_name_only_for_the_operator(
    tmp_path: Path, status: int
) -> None:
    signer = ScriptedSigner(Rejected(status, "the annual budget of ann@example is used up"))
    with capture_logs() as logs:
        async with bench(tmp_path, signer, customer=ANN) as b:
            with b.events.reading("cam", "", lambda: None) as viewer:
                with pytest.raises(Ended) as ended:
                    await b.payer.first_payment()
                watched = await viewer.take(1)
    said = f"the signer answered {status}: the annual budget of ***@example is used up"
    assert ended.value.reason is EndReason.SIGNER_REFUSED
    assert ended.value.detail == f"the signer refused this customer: {said}"
    assert len(signer.calls) == 1
    (event,) = b.events.recent()
    assert event.type is EventType.PAYMENT_FAILED
    assert json.loads(event.text)["data"]["customer"] == "ann"
    assert watched is not None
    assert said.encode() in watched
    assert b"'ann'" not in watched and b'"ann"' not in watched
    assert ("signer refused this customer", "ann") in [(one["event"], one.get("customer")) for one in logs]


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_a_name_is_hidden_wherever_it_stands_as_a_word(name: str, before: str, after: str) -> None:
    customer = Customer(name)
    assert customer.hidden_in(before) == before or name in before
    if name and not re.search(r"\w$", before) and not re.search(r"^\w", after):
        assert customer.hidden_in(f"{before}{name}{after}") != f"{before}{name}{after}" or name == "***"


@pytest.mark.asyncio
async def test_a_session_that_is_moved_is_the_new_ones(where: str) -> None:
    ledger = await Ledger.open(where)
    first = record("one")
    session = await ledger.open_session(replace(first, job=replace(first.job, customer=ANN)))
    await ledger.move_session(session, replace(first.job, customer=Customer("bob")), "token b")
    rows = [one.row async for one in ledger.reader.sessions()]
    assert [(row["customer"], row["markup"]) for row in rows] == [("bob", None)]
    await ledger.close()
