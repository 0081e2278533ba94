"""Where a key is in a TOML file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runner.toml_lines import line_of

TEXT = """app = "x"
# [start]
start.path = "/a"

[ limits ]   # of time
"first_picture" = 3
[params.rename]
path = "b"
[[more]]
path = "c"
"""


@pytest.mark.parametrize(
    ("section", "key", "line"),
    [
        ("", "app", 1),
        ("start", "path", 3),
        ("limits", "first_picture", 6),
        ("limits", "other", 5),
        ("params", "rename", 7),
        ("more", "path", 10),
        ("none", "path", 0),
        ("", "path", 0),
    ],
)
def test_a_key_is_found_by_its_section_and_name(section: str, key: str, line: int) -> None:
    assert line_of(TEXT, section, key) == line


@given(st.text("[]=.#'\"ab \n", max_size=100))
def test_the_line_is_one_of_the_files_whatever_that_holds(text: str) -> None:
    assert 0 <= line_of(text, "a", "b") <= len(text.splitlines())
