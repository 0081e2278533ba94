"""Signatures as Standard Webhooks defines them, against its own example."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.events.signature import parse_secret, signed_headers
from tests.docs.documents import Document

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EXAMPLE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_example_of_the_specification_has_its_signature() -> None:
    key = parse_secret(SECRET)
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}', [key])
    assert headers["webhook-signature"] == EXAMPLE
    assert headers["webhook-timestamp"] == "1614265330"


def test_each_secret_signs_so_that_one_can_be_replaced() -> None:
    key = parse_secret(SECRET)
    headers = signed_headers("a", 1, "{}", [key, b"k" * 32])
    assert len(headers["webhook-signature"].split(" ")) == 2


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_***", SECRET.removeprefix("whsec_")])
def test_what_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"secret|base64|padding|Only"):
        parse_secret(text)


def test_the_documents_example_takes_what_is_signed_and_nothing_else() -> None:
    (example,) = (block for block in Document("docs/events.md").blocks if block.language == "python")
    names: dict[str, Any] = {}
    exec(example.text, names)
    headers = signed_headers("evt_1", int(time.time()), "{}", [b"o" * 32, parse_secret(SECRET)])
    assert names["verify"](SECRET, headers, b"{}")
    assert not names["verify"](SECRET, headers, b"{ }")
    old = signed_headers("evt_1", int(time.time()) - 600, "{}", [parse_secret(SECRET)])
    assert not names["verify"](SECRET, old, b"{}")
