from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flags import (
    ADDRESS,
    BOOLEAN,
    DURATION,
    INTEGER,
    LIST,
    TEXT,
    URL,
    Flag,
    FlagError,
    HelpRequested,
    Parsed,
    choice,
    parse_duration,
    parse_flags,
    unknown_variables,
)

TABLE = (
    Flag("config", TEXT, None, "a file"),
    Flag("name", TEXT, "nobody", "who"),
    Flag("count", INTEGER, "3", "how many"),
    Flag("fast", BOOLEAN, "false", "hurry"),
    Flag("wait", DURATION, "5s", "how long"),
    Flag("addr", ADDRESS, "127.0.0.1:80", "where"),
    Flag("urls", LIST, None, "which"),
    Flag("signer", URL, None, "who signs"),
    Flag("effect", choice("grey", "none"), "none", "what"),
)


def parse(*argv: str, environ: dict[str, str] | None = None) -> Parsed:
    return parse_flags(TABLE, argv, environ or {}, program="thing")


@pytest.mark.parametrize(
    "argv",
    [("-name", "ada"), ("-name=ada",), ("--name", "ada"), ("--name=ada",), ("-name", "x", "-name", "ada")],
)
def test_a_flag_is_taken_in_each_of_gos_forms(argv: tuple[str, ...]) -> None:
    assert parse(*argv)["name"] == "ada"


@pytest.mark.parametrize(
    ("argv", "fast"),
    [
        (("-fast",), True),
        (("-fast=false",), False),
        (("-fast=1", "-name", "x"), True),
        (("--fast=F",), False),
    ],
)
def test_a_boolean_stands_alone_or_behind_an_equals_sign(argv: tuple[str, ...], fast: bool) -> None:
    assert parse(*argv)["fast"] is fast


def test_a_value_may_begin_with_a_dash_and_hold_an_equals_sign() -> None:
    assert parse("-name", "-1")["name"] == "-1"
    assert parse("-name=a=b")["name"] == "a=b"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("0", 0),
        ("250us", 0.00025),
        ("1h0m1s", 3601),
    ],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["1" * 5_000 + "h", "9223372037s"])
def test_a_duration_is_no_longer_than_gos(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "5sec", "1m 30s", "five"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(FlagError, match=r"^-wait .* it takes a duration such as 5s, 1m30s or 500ms$"):
        parse("-wait", text)


def test_command_line_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "gateway.conf"
    file.write_text("# a comment\n\nname from-file\ncount 7\nfast\n-wait 2s\n")
    environ = {"LP_CONFIG": str(file), "LP_NAME": "from-environment", "LP_URLS": ""}
    parsed = parse("-addr", ":9", environ=environ)
    assert parsed["name"] == "from-environment"
    assert parse("-name", "here", environ=environ)["name"] == "here"
    assert (parsed["count"], parsed["fast"], parsed["wait"]) == (7, True, 2.0)
    assert parsed["addr"] == ("0.0.0.0", 9)
    assert parsed["effect"] == "none"
    assert parsed["urls"] is None
    assert parsed.given == {"config", "name", "count", "fast", "wait", "addr"}


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("-nam", "x"), "-nam is not a flag of thing: did you mean -name?"),
        (("-zzzz",), "-zzzz is not a flag of thing: -help lists the flags that it takes"),
        (("name",), "'name' is not a flag: thing takes flags only, such as -name value (see -help)"),
        (("-count", "many"), "-count 'many' is refused: it takes a whole number, 0 or more"),
        (("-count", "-1"), "-count '-1' is refused: it takes a whole number, 0 or more"),
        (("-addr", "80"), "-addr '80' is refused: it takes host:port with a port from 0 to 65535"),
        (("-addr", "h:70000"), "-addr 'h:70000' is refused: it takes host:port with a port from 0 to 65535"),
        (("-effect", "pink"), "-effect 'pink' is refused: it takes one of grey, none"),
        (("-fast=maybe",), "-fast 'maybe' is refused: it takes true or false"),
        (("-name",), "-name needs a value: it takes any text"),
        (("-signer", "ftp://x"), "-signer 'ftp://x' is refused: it takes an http or https URL"),
    ],
)
def test_bad_usage_is_one_sentence_with_flag_value_and_what_is_accepted(
    argv: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(FlagError) as error:
        parse(*argv)
    assert str(error.value) == sentence


def test_a_variable_that_is_no_flag_is_named_with_the_nearest_one() -> None:
    environ = {
        "LP_CUONT": "5",
        "LP_name": "x",
        "LP_ZZZZ": "1",
        "LP_NOTHING": "",
        "LP_COUNT": "5",
        "PATH": "/",
    }
    assert unknown_variables(TABLE, environ, program="thing") == (
        "LP_CUONT in the environment is not a flag of thing: did you mean LP_COUNT?",
        "LP_ZZZZ in the environment is not a flag of thing: -help lists the flags that it takes",
        "LP_name in the environment is not a flag of thing: did you mean LP_NAME?",
    )


def test_a_bad_line_of_a_file_names_line_and_file(tmp_path: Path) -> None:
    file = tmp_path / "c.conf"
    file.write_text("name x\nnmae y\n")
    with pytest.raises(FlagError, match=r"'nmae' in line 2 of .*c\.conf is not a flag: did you mean -name\?"):
        parse("-config", str(file))
    with pytest.raises(FlagError, match="cannot be read"):
        parse("-config", str(tmp_path / "none.conf"))


def test_a_url_without_a_scheme_means_https() -> None:
    assert parse("-signer", "signer.example:8000/")["signer"] == "https://signer.example:8000"


def test_help_is_asked_for() -> None:
    with pytest.raises(HelpRequested):
        parse("-help")


@given(st.lists(st.text(max_size=12), max_size=5))
def test_no_command_line_does_anything_but_parse_or_explain(argv: list[str]) -> None:
    with contextlib.suppress(FlagError, HelpRequested):
        parse(*argv)
