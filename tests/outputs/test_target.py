"""Which URLs outputs may go to, and what is shown of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outputs.disk import new_file
from gateway.outputs.ffmpeg import network_arguments
from gateway.outputs.output import DestinationGone
from gateway.outputs.target import BadTarget, file_of, parse_target


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtmp://a.example/live/key", "rtmp://a.example:1935"),
        ("rtmps://user:pass@a.example:443/app/inst/key?x=y", "rtmps://a.example:443"),
        ("srt://[2001:db8::1]:9000?streamid=publish%3acam&passphrase=0123456789", "srt://[2001:db8::1]:9000"),
        ("file:/srv/{stream}.mp4", "file:"),
    ],
)
def test_a_url_is_shown_as_scheme_and_host(url: str, shown: str) -> None:
    assert parse_target(url).shown == shown


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/x",
        "concat:/etc/passwd",
        "-f",
        "rtmp://a.example",
        "rtmp:///live/hidden",
        "rtmp://a.example/live/hidden live=1",
        "rtmp://a.example/live/hid'den",
        "rtmp://-a/live/hidden",
        "rtmp://a.example:99999/live/hidden",
        "srt://a.example?mode=caller",
        "srt://a.example:9000?mode=listener",
        "srt://a.example:9000?localport=1",
        "srt://a.example:9000/path",
        "file:relative.mp4",
        "file:/srv/../etc/x.mp4",
        "file:/srv/x.exe",
        "rtmp://a.example/" + "k" * 3000,
    ],
)
def test_what_is_no_place_for_a_stream_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(BadTarget) as refused:
        parse_target(url)
    assert "hidden" not in str(refused.value)


@given(st.text(max_size=80))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for scheme in ("", "rtmp://", "srt://h:1?", "file:/"):
        try:
            target = parse_target(scheme + text)
        except BadTarget:
            continue
        assert not target.url.startswith("-")
        assert not set(target.url) & set(" \t\r\n\"'\\\0")


def test_an_address_takes_the_place_of_the_name_and_the_far_end_still_hears_it() -> None:
    target = parse_target("rtmp://me:pass@a.example/live/inst/key?x=y")
    arguments = network_arguments(target, audio=True, address="203.0.113.9")
    assert arguments[-1] == "rtmp://me:pass@203.0.113.9:1935/live/inst/key?x=y"
    assert arguments[arguments.index("-rtmp_tcurl") + 1] == "rtmp://a.example:1935/live/inst"
    secure = parse_target("rtmps://a.example/live/key")
    arguments = network_arguments(secure, audio=True, address="203.0.113.9")
    assert arguments[-1] == secure.url
    assert arguments[arguments.index("-tls_verify") + 1] == "1"


def test_no_word_of_ffmpeg_holds_a_secret() -> None:
    target = parse_target("rtmp://a.example/live/s3cret?token=t0ken%20x")
    said = (
        "rtmp://10.0.0.1/live/s3cret?token=t0ken: refused; app s3cret, t0ken x; tcp://a.example:1935 failed"
    )
    masked = target.masked(said)
    assert "s3cret" not in masked
    assert "t0ken" not in masked
    assert "refused" in masked


def test_a_file_never_replaces_another_and_no_name_leads_out(tmp_path: Path) -> None:
    target = parse_target(f"file:{tmp_path}/{{stream}}/{{time}}.ts")
    file = file_of(target, "cam", "t")
    new_file(file).touch()
    assert (file.name, new_file(file).name) == ("t.ts", "t-1.ts")
    with pytest.raises(DestinationGone, match="full"):
        new_file(file, free=lambda folder: 0)
    for name in (".", ".."):
        with pytest.raises(ValueError, match="no file"):
            file_of(target, name, "t")
