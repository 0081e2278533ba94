"""What `-help` and docs/flags.md say of every flag."""

from __future__ import annotations

import pytest

from gateway.flag_text import MAX_HELP, flags_document, help_text
from gateway.flags import BOOLEAN, DURATION, TEXT, Flag, choice
from gateway.settings import ALL_FLAGS, FLAG_GROUPS

TABLE = (
    Flag("fast", BOOLEAN, "false", "Hurry"),
    Flag("wait", DURATION, "5s", "Wait this long"),
    Flag("mood", choice("good", "bad"), None, "Be like this", "as it comes"),
    Flag("name", TEXT, None, "Use this name"),
)


def test_help_lists_every_flag_with_its_default() -> None:
    text = help_text(TABLE, usage="usage: thing [flags]")
    assert text.startswith("usage: thing [flags]\n")
    for flag in TABLE:
        assert f"  -{flag.name}" in text
    assert "Wait this long (default 5s)" in text
    assert "Be like this (default as it comes)" in text


def test_the_document_has_a_table_for_each_part() -> None:
    document = flags_document({"Speed": TABLE[:2], "Rest": TABLE[2:]})
    _, speed, rest = document.split("\n## ")
    assert "| `-wait` | duration | `5s` | Wait this long |" in speed.splitlines()
    assert "| `-mood` | good\\|bad | as it comes | Be like this |" in rest.splitlines()
    assert "| `-name` | text | none | Use this name |" in rest.splitlines()


@pytest.mark.parametrize("flag", ALL_FLAGS, ids=lambda flag: flag.name)
def test_the_help_of_a_flag_is_one_short_line_that_begins_with_a_verb(flag: Flag) -> None:
    assert len(flag.help) <= MAX_HELP
    assert flag.help[0].isupper()
    assert not flag.help.endswith(".")


def test_a_flag_stands_in_one_part_only() -> None:
    names = [flag.name for flags in FLAG_GROUPS.values() for flag in flags]
    assert len(names) == len(set(names))
