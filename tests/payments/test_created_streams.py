"""Whose the names of created streams are: on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.payments.created_streams import CreatedStream, KeyUsed, NameInUse
from gateway.payments.ledger import Clocks, Ledger

FIRST = CreatedStream("cam", "shop", "bob", "digest", "t1", 100, 160, 170, "key", '{"streams": ["cam"]}')


@pytest.mark.asyncio
async def test_names_and_keys_are_the_owners_until_they_expire(where: str) -> None:
    now = 100
    ledger = await Ledger.open(where, clocks=Clocks(wall_ns=lambda: now * 10**9))
    created = ledger.created_streams
    assert created.now == 100
    assert await created.create(FIRST) == FIRST
    assert await created.create(replace(FIRST, token_id="t2", created=101)) == FIRST
    with pytest.raises(KeyUsed):
        await created.create(replace(FIRST, token_id="t2", digest="another"))
    for other in ({"owner": "shed"}, {"customer": "carl", "key": ""}):
        with pytest.raises(NameInUse):
            await created.create(replace(FIRST, token_id="t2", **other))
    anew = replace(FIRST, token_id="t3", key="", expires=200, reserved_until=210)
    assert await created.create(anew) == anew
    theirs = replace(FIRST, owner="shed", token_id="t4", expires=300, reserved_until=310)
    now = 209
    with pytest.raises(NameInUse):
        await created.create(theirs)
    now = 210
    assert await created.create(theirs) == theirs
    await ledger.close()


@pytest.mark.asyncio
async def test_tokens_that_are_good_for_less_do_not_free_a_name_that_older_ones_open(where: str) -> None:
    now = 100
    ledger = await Ledger.open(where, clocks=Clocks(wall_ns=lambda: now * 10**9))
    created = ledger.created_streams
    await created.create(FIRST)
    short = replace(FIRST, token_id="t2", key="key 2", expires=101, reserved_until=111)
    assert await created.create(short) == replace(short, reserved_until=170)
    now = 150
    again = replace(short, token_id="t3", digest="another", created=150, expires=155, reserved_until=165)
    assert await created.create(again) == replace(again, reserved_until=170), "the key's tokens have expired"
    theirs = replace(FIRST, owner="shed", token_id="t4", expires=300, reserved_until=310)
    now = 169
    with pytest.raises(NameInUse):
        await created.create(theirs)
    now = 170
    assert await created.create(theirs) == theirs
    await ledger.close()


@pytest.mark.asyncio
async def test_of_many_who_ask_at_once_one_gets_the_name_and_nobody_else_is_disturbed(where: str) -> None:
    ledger = await Ledger.open(where, clocks=Clocks(wall_ns=lambda: 100 * 10**9))
    asked = [replace(FIRST, owner=f"shop{number}", token_id=f"t{number}") for number in range(5)]
    answers = await asyncio.gather(
        *(ledger.created_streams.create(one) for one in asked), return_exceptions=True
    )
    assert sum(isinstance(one, CreatedStream) for one in answers) == 1
    assert sum(isinstance(one, NameInUse) for one in answers) == 4
    await ledger.check()
    await ledger.close()
