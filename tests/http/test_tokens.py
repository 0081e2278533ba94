from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.http.tokens import BadTokenLine, TokenFile, parse_line
from gateway.payments.spending import NO_LIMITS, StreamLimits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_a_bare_token_is_for_every_stream(path: Path) -> None:
    path.write_text("secret\n")
    grant = TokenFile(path).find("secret")
    assert grant is not None
    assert grant.allows("anything.at-all")
    assert (grant.max_streams, grant.max_viewers) == (None, None)


def test_patterns_and_limits_stand_behind_a_token(path: Path) -> None:
    path.write_text("secret streams=cam-*,door maxStreams=2 maxViewers=3\n")
    grant = TokenFile(path).find("secret")
    assert grant is not None
    assert [grant.allows(name) for name in ("cam-1", "door", "cam", "Door")] == [True, True, False, False]
    assert (grant.max_streams, grant.max_viewers) == (2, 3)


def test_a_word_behind_a_token_lets_its_publisher_name_an_orchestrator(path: Path) -> None:
    path.write_text("secret chooseOrchestrator maxStreams=2\nbare\n")
    tokens = TokenFile(path)
    chooser, bare = tokens.find("secret"), tokens.find("bare")
    assert chooser is not None
    assert bare is not None
    assert (chooser.may_choose, bare.may_choose) == (True, False)


def test_a_token_may_name_models(path: Path) -> None:
    path.write_text("one pipeline=noop,streamdiffusion\ntwo\n")
    tokens = TokenFile(path)
    one, two = tokens.find("one"), tokens.find("two")
    assert one is not None
    assert one.models == ("noop", "streamdiffusion")
    assert two is not None
    assert two.models == ()


def test_a_token_may_carry_limits_for_each_stream(path: Path) -> None:
    path.write_text("secret maxSessionSpend=0.1ETH maxStreamSeconds=600\nbare\n")
    tokens = TokenFile(path)
    limited, bare = tokens.find("secret"), tokens.find("bare")
    assert limited is not None
    assert limited.limits == StreamLimits(wei=10**17, seconds=600)
    assert bare is not None
    assert bare.limits == NO_LIMITS


@pytest.mark.parametrize(
    "line",
    [
        "t maxSessionSpend=lots",
        "t maxSessionSpend=1ETH/h",
        "t maxStreamSeconds=1h",
        "t maxPublisherSpendPerHour=much",
        "t maxPaidStartsPerMinute=-1",
    ],
)
def test_a_limit_that_is_none_opens_nothing(line: str) -> None:
    with pytest.raises(BadTokenLine):
        parse_line(line)


def test_a_token_may_carry_limits_over_time(path: Path) -> None:
    words = "maxPublisherSpendPerHour=1gwei maxPublisherSpendPerDay=2gwei maxPaidStartsPerMinute=9"
    path.write_text(f"secret {words}\n")
    grant = TokenFile(path).find("secret")
    assert grant is not None
    assert grant.limits == StreamLimits(publisher_hour=10**9, publisher_day=2 * 10**9, paid_starts=9)


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        ("maxStreams=1", 6),
        ("maxStreams=2", None),
        ("maxStreams=1 maxPaidStartsPerMinute=20", 20),
        ("maxStreams=1 maxPaidStartsPerMinute=0", None),
    ],
)
def test_a_token_for_one_stream_starts_few_a_minute_unless_it_says_how_many(
    words: str, starts: int | None
) -> None:
    entry = parse_line(f"secret {words}")
    assert entry is not None
    assert entry[1].limits.paid_starts == starts


@pytest.mark.parametrize(
    ("line", "token"),
    [("# secret", None), ("secret # mine", "secret"), ("a#b", "a#b"), ("   ", None), ("\tsecret ", "secret")],
)
def test_a_hash_starts_a_comment(line: str, token: str | None, path: Path) -> None:
    path.write_text(line + "\n")
    tokens = TokenFile(path)
    for candidate in ("secret", "a#b", "#", "mine", ""):
        assert (tokens.find(candidate) is not None) == (candidate == token)


@pytest.mark.parametrize("stranger", ["", "secre", "secrett", "SECRET", "streams=*", "sécret", "\udcff"])
def test_only_the_whole_token_opens(stranger: str, path: Path) -> None:
    path.write_text("secret streams=*\n")
    assert TokenFile(path).find(stranger) is None


class Clock:
    """Seconds that pass when the test says so, for the wall too."""

    def __init__(self) -> None:
        self.now = time.time() + 1  # later than what was written before

    def __call__(self) -> float:
        return self.now


def opens(tokens: TokenFile, *names: str) -> list[bool]:
    return [tokens.find(name) is not None for name in names]


def test_a_changed_file_is_read_anew(path: Path) -> None:
    path.write_text("first\n")
    clock = Clock()
    tokens = TokenFile(path, clock=clock, wall=clock)
    assert tokens.find("first")
    path.write_text("second\nthird\n")
    assert opens(tokens, "first", "second", "third") == [False, True, True]
    replacement = path.with_suffix(".new")
    replacement.write_text("fourth\nsixth\n")
    replacement.replace(path)
    assert opens(tokens, "second", "fourth") == [False, True]


def test_a_file_that_is_being_written_counts_once_it_stands_still(path: Path) -> None:
    path.write_text("first\nsecond\n")
    clock = Clock()
    tokens = TokenFile(path, clock=clock, wall=lambda: 0.0)
    assert opens(tokens, "first", "second") == [True, True]
    path.write_text("")
    assert opens(tokens, "first", "second") == [True, True]
    clock.now += 0.15
    path.write_text("first\n")
    assert opens(tokens, "first", "second") == [True, True]
    clock.now += 0.15
    assert opens(tokens, "first", "second") == [True, True], "it changed 0.15 s ago"
    clock.now += 0.1
    assert opens(tokens, "first", "second") == [True, False]


def test_a_file_that_is_gone_for_a_moment_or_was_long_ago(path: Path) -> None:
    path.write_text("secret\n")
    clock = Clock()
    tokens = TokenFile(path, clock=clock, wall=lambda: 0.0)
    assert tokens.find("secret")
    path.unlink()
    assert tokens.find("secret"), "an editor may be about to put another in its place"
    clock.now += 0.2
    assert tokens.find("secret") is None
    path.write_text("secret\n")
    clock.now += 0.2
    assert tokens.find("secret") is None, "this is the first look at it"
    clock.now += 0.2
    assert tokens.find("secret")
    path.unlink()
    assert TokenFile(path, clock=clock, wall=clock).find("secret") is None


def test_a_token_that_was_taken_out_a_while_ago_is_not_good_once_more(path: Path) -> None:
    path.write_text("secret\n")
    clock = Clock()
    tokens = TokenFile(path, clock=clock, wall=clock)
    assert tokens.find("secret")
    path.unlink()
    assert tokens.find("secret") is None


def test_a_bad_line_opens_nothing_and_leaves_the_others(path: Path) -> None:
    path.write_text("one\ntwo stream=cam\nthree maxStreams=many\nfour streams=\nfive\n")
    tokens = TokenFile(path)
    opened = [bool(tokens.find(token)) for token in ("one", "two", "three", "four", "five")]
    assert opened == [True, False, False, False, True]
    with pytest.raises(BadTokenLine, match=r"^line 2: stream= is invalid"):
        tokens.check()


def test_a_grants_name_is_not_its_token() -> None:
    entry = parse_line("secret")
    assert entry is not None
    assert "secret" not in repr(entry)


def test_a_byte_order_mark_is_no_part_of_the_first_token(path: Path) -> None:
    path.write_text("\ufefffirst\n", encoding="utf-8")
    assert TokenFile(path).find("first")
