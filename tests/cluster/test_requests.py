from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.requests import BadNodeMessage, ForwardedAnswer, ForwardedRequest

LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
HEADERS = st.lists(st.tuples(LINES, LINES), max_size=4).map(tuple)
REQUESTS = st.builds(
    ForwardedRequest,
    method=st.sampled_from(["GET", "POST", "PATCH", "DELETE"]),
    target=LINES.map(lambda text: "/" + text),
    headers=HEADERS,
    body=st.binary(max_size=50),
    client=LINES,
    scheme=LINES,
    host=LINES,
    prefix=LINES,
)
ANSWERS = st.builds(
    ForwardedAnswer, status=st.integers(200, 599), headers=HEADERS, body=st.binary(max_size=50)
)


@given(REQUESTS)
def test_a_request_comes_back_as_it_was(request: ForwardedRequest) -> None:
    assert ForwardedRequest.decode(request.encode()) == request


@given(ANSWERS)
def test_an_answer_comes_back_as_it_was(answer: ForwardedAnswer) -> None:
    assert ForwardedAnswer.decode(answer.encode()) == answer


def changed(**members: object) -> bytes:
    request = ForwardedRequest("GET", "/x", (("A", "b"),), b"body", "1.2.3.4", "http", "h")
    head, _, body = request.encode().partition(b"\n")
    return json.dumps({**json.loads(head), **members}).encode() + b"\n" + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no line",
        b"\n",
        b"[]\n",
        b"[" * 100_000 + b"\n",
        changed(v=2),
        changed(method="TRACE"),
        changed(target="x"),
        changed(target="/x\r\nHost: y"),
        changed(headers=[["a"]]),
        changed(headers=[["a", "b\n"]]),
        changed(headers="x"),
        changed(client=None),
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(BadNodeMessage):
        ForwardedRequest.decode(data)


@pytest.mark.parametrize("data", [b"", b"{}\n", b'{"v": 1, "status": 99, "headers": []}\n', b'{"v": 1}\n'])
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(BadNodeMessage):
        ForwardedAnswer.decode(data)


@pytest.mark.parametrize(
    ("status", "body", "takes_nobody"),
    [
        (503, b'{"code": "draining"}', True),
        (503, b'{"code": "overloaded"}', True),
        (503, b'{"code": "no_orchestrator"}', False),
        (409, b'{"code": "draining"}', False),
        (503, b"busy", False),
        (503, b"[]", False),
    ],
)
def test_only_what_concerns_one_node_is_asked_of_another(
    status: int, body: bytes, takes_nobody: bool
) -> None:
    assert ForwardedAnswer(status, (), body).takes_nobody is takes_nobody


def test_members_of_a_later_release_are_ignored() -> None:
    assert ForwardedRequest.decode(changed(later=1)).client == "1.2.3.4"
