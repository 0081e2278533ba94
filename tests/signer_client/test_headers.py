"""Headers of single sessions, and of errors that repeat them."""

from __future__ import annotations

import pytest

from signer_client import Rejected
from tests.signer_client.servers import PAYMENT, STATE, answers, fails, signer

OWN = {"authorization": "Bearer of-the-customer", "X-Plan": "gold"}


@pytest.mark.asyncio
async def test_those_of_a_session_replace_the_clients_of_the_same_name_for_its_call_alone() -> None:
    defaults = {"Authorization": "Bearer of-the-operator", "X-Gateway": "one"}
    async with signer(answers(PAYMENT), headers=defaults) as (it, s):
        for headers in (OWN, {}):
            await it.generate_live_payment(
                orchestrator=b"info", state=STATE, manifest_id="m", headers=headers
            )
    first, second = s.requests
    assert first.headers.getall("Authorization") == ["Bearer of-the-customer"]
    assert (first.headers["X-Plan"], first.headers["X-Gateway"]) == ("gold", "one")
    assert second.headers["Authorization"] == "Bearer of-the-operator"
    assert "X-Plan" not in second.headers


@pytest.mark.asyncio
async def test_a_message_that_repeats_a_header_is_told_without_it() -> None:
    words = "no plan gold for Bearer of-the-customer; of-the-customer is unknown"
    async with signer(fails(403, words)) as (it, _):
        with pytest.raises(Rejected) as refused:
            await it.generate_live_payment(orchestrator=b"info", state=STATE, manifest_id="m", headers=OWN)
    assert refused.value.message == "no plan *** for ***; *** is unknown"
