"""The commands' arguments and their last line."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from yarl import URL

from gateway.clients import command, play, publish, smoke
from gateway.clients.session import ClientFailed
from gateway.flags import Parsed


@pytest.mark.parametrize(
    ("main", "argv", "words"),
    [
        (publish.main, ["clip.mp4"], "it takes SOURCE WHIP_URL first"),
        (publish.main, ["-loop", "clip.mp4", "http://x/"], "it takes SOURCE WHIP_URL first"),
        (play.main, [], "it takes WHEP_URL first"),
        (smoke.main, ["http://x/", "-durration", "5s"], "did you mean -duration?"),
    ],
)
def test_bad_usage_is_status_2(
    capsys: pytest.CaptureFixture[str], main: object, argv: list[str], words: str
) -> None:
    assert callable(main)
    assert main(argv) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("main", [publish.main, play.main, smoke.main])
def test_a_url_that_is_none_is_said_in_the_last_line(
    capsys: pytest.CaptureFixture[str], main: object
) -> None:
    assert callable(main)
    argv = ["clip.mp4", "cam"] if main is publish.main else ["cam"]
    assert main(argv) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert "'cam' is no URL" in said["error"]


def test_the_result_is_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def run(arguments: Sequence[str], parsed: Parsed) -> command.Result:
        return {"ok": parsed["json"], "given": list(arguments)}

    arguments = ("ONE",)
    assert command.main("test", arguments, [command.JSON], ["a", "-json"], run, "") == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "given": ["a"]}
    assert command.main("test", arguments, [command.JSON], ["a"], run, "") == 1


def test_a_url_of_another_scheme_is_refused() -> None:
    assert command.url_of("https://gateway.example/x/whip", "whip") == URL("https://gateway.example/x/whip")
    for text in ("rtmp://x/y", "x", "http://", "file:///etc/passwd"):
        with pytest.raises(ClientFailed, match="is no URL"):
            command.url_of(text, "whip")
