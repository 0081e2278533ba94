"""App profiles: those that are shipped, and what is wrong with a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.runner.profile import AppProfile, BadProfile, load_profiles, pause_in
from gateway.runner.settings import SHIPPED_PROFILES

ECHO = """
app = "acme/echo"
[start]
path = "/echo"
body = { mode = "invert" }
[params]
names = ["mode", "radius"]
rename = { effect = "mode" }
"""


def test_the_shipped_profiles_are_good_and_the_example_apps_are_among_them() -> None:
    shipped = load_profiles([SHIPPED_PROFILES])
    assert {"livepeer-example/echo", "livepeer-example/comfystream"} <= shipped.keys()


@pytest.mark.parametrize("profile", load_profiles([SHIPPED_PROFILES]).values(), ids=lambda one: one.app)
def test_a_shipped_profile_gives_time_for_a_picture_after_the_longest_start(profile: AppProfile) -> None:
    assert profile.limits.first_picture > profile.start.timeout


@pytest.mark.parametrize(("timeout", "limit"), [(30, 120), (90, 120), (91, 121), (600, 630)])
def test_a_profile_that_does_not_say_gives_time_for_a_picture_too(timeout: int, limit: float) -> None:
    text = f"app = 'x'\n[start]\npath = '/e'\ntimeout = {timeout}\n"
    assert AppProfile.parse(text, "x.toml").limits.first_picture == limit
    assert AppProfile.parse(f"{text}[limits]\n", "x.toml").limits.first_picture == limit
    assert AppProfile.parse(f"{text}[limits]\nfirst_picture = 5\n", "x.toml").limits.first_picture == 5


@pytest.mark.parametrize("app", ["livepeer-example/flux-klein", "livepeer-sample/streamdiffusion"])
def test_prompts_of_a_stream_are_the_prompt_of_an_app_that_takes_one(app: str) -> None:
    profile = load_profiles([SHIPPED_PROFILES])[app]
    assert profile.translate({"prompts": "a cat"}) == {"prompt": "a cat"}


def test_a_streams_parameters_are_renamed_and_put_over_the_body_that_the_profile_has() -> None:
    profile = AppProfile.parse(ECHO, "echo.toml")
    assert profile.start_body({}) == {"mode": "invert"}
    params = {"effect": "gray", "radius": 3, "prompts": "x"}
    assert profile.start_body(params) == {"mode": "gray", "radius": 3}


def test_with_a_handshake_the_call_has_the_body_alone_and_the_start_all_parameters() -> None:
    text = ECHO + "\n[handshake]\nload_path = '/load'\nload = { models = ['a'] }\nstart = { fps = 30 }"
    profile = AppProfile.parse(text, "scope.toml")
    assert profile.handshake is not None and profile.handshake.load == {"models": ["a"]}
    assert profile.start_body({"radius": 3}) == {"mode": "invert"}
    assert profile.whole({"radius": 3}) == {"fps": 30, "radius": 3}


@pytest.mark.parametrize(
    ("params", "halted"),
    [
        ({}, None),
        ({"mode": "gray", "pause": "yes", "resume": False}, None),
        ({"pause": True}, True),
        ({"pause": False}, False),
        ({"pause": True, "resume": True}, False),
        ({"resume": True, "pause": True}, True),
    ],
)
def test_the_newest_of_a_streams_parameters_says_whether_it_is_halted(
    params: dict[str, object], halted: bool | None
) -> None:
    assert pause_in(params) is halted


def test_what_halts_an_app_is_none_of_its_parameters_where_its_profile_has_it_apart() -> None:
    plain = AppProfile.parse("app = 'x'\n[start]\npath = '/e'", "x.toml")
    assert plain.translate({"pause": True}) == {"pause": True}
    apart = AppProfile.parse("app = 'x'\n[start]\npath = '/e'\n[pause]\nparam = 'paused'", "x.toml")
    assert apart.translate({"pause": True, "resume": True, "mode": "a"}) == {"mode": "a"}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 0, "app must be"),
        ("# mine\n\napp = 7", 3, "app must be"),
        ("app = 'x'", 0, "[start] section"),
        ("app = 'x'\n[start]\npath = 'echo'", 3, "must begin with /"),
        ("app = 'x'\n[start]\ntimeout = 3", 2, "needs a path"),
        ("app = 'x'\n[start]\npath = '/e'\ntimeout = true", 4, "seconds above 0"),
        ("app = 'x'\n[start]\npath = '/e'\nretries = 3", 4, "accepted are path, body, timeout"),
        ("app = 'x'\n[start]\npath = '/e'\n[handshake]\nload_path = 'load'", 5, "must begin with /"),
        ("app = 'x'\n[start]\npath = '/e'\n[ pause ]\npath = '/p'", 4, "[pause] needs a param, or path and"),
        ("app = 'x'\n[begin]\npath = '/e'", 2, "accepted are start, handshake, channels"),
        ("app = 'x'\nretries = 3\n[start]\npath = '/e'", 2, "accepted are start, handshake, channels"),
        ("app = 'x'\n[start]\npath = '/e'\n[params]\nnames = [1]", 5, "a list of names"),
        ("app = 'x'\nstart.path = '/e'\nstart.timeout = 0", 3, "seconds above 0"),
        ("app = 'x'\n[start]\npath = '/e'\n[params.rename]\na = 1", 4, "a table of names"),
        ("app = 'x'\n[start", 0, "not TOML"),
    ],
)
def test_a_bad_profile_says_file_line_and_what_is_accepted(text: str, line: int, says: str) -> None:
    with pytest.raises(BadProfile) as error:
        AppProfile.parse(text, "bad.toml")
    place = f"bad.toml:{line}: " if line else "bad.toml: "
    assert str(error.value).startswith(place) and says in str(error.value)


def test_an_operators_own_profile_comes_before_a_shipped_one(tmp_path: Path) -> None:
    own = ECHO.replace("acme/echo", "livepeer-example/echo").replace('path = "/echo"', 'path = "/mine"')
    (tmp_path / "echo.toml").write_text(own)
    assert load_profiles([SHIPPED_PROFILES, tmp_path])["livepeer-example/echo"].start.path == "/mine"


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadProfile):
        load_profiles([tmp_path / "none"])
