"""What an app's error answers mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runner.app_errors import Errors

ERRORS = Errors(retry=("warming",), params=("bad_prompt", "7"), full=("busy",))


@pytest.mark.parametrize(
    ("answer", "counts_as"),
    [
        ({"error": {"code": "warming", "message": "soon"}}, (503, "soon")),
        ({"error": {"code": "bad_prompt", "message": "too long"}}, (400, "too long")),
        ({"error": {"code": 7}}, (400, "")),
        ({"error": {"code": "busy"}}, (409, "")),
        ({"error": {"code": "broken", "message": "no GPU"}}, (500, "no GPU")),
        ({"error": "no GPU"}, (500, "")),
        ({"error": {"code": ["busy"]}}, (500, "")),
        ([], (500, "")),
    ],
)
def test_a_code_that_the_profile_names_counts_as_the_status_that_says_the_same(
    answer: Any, counts_as: tuple[int, str]
) -> None:
    assert ERRORS.read(500, json.dumps(answer).encode()) == counts_as


@given(st.binary(max_size=200))
def test_what_is_no_such_answer_means_its_status(body: bytes) -> None:
    assert ERRORS.read(502, body)[0] == 502
