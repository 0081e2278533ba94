"""Which of an orchestrator's URLs are taken."""

from __future__ import annotations

import pytest

from gateway.orchestrator.urls import GrpcTarget, complete, grpc_target, host

BASE = "https://o.example:8935"


@pytest.mark.parametrize(
    ("addr", "target"),
    [
        ("o.example:8935", ("o.example", 8935, True)),
        ("127.0.0.1:8935", ("127.0.0.1", 8935, True)),
        ("https://o.example:8935", ("o.example", 8935, True)),
        ("https://o.example:8935/", ("o.example", 8935, True)),
        ("https://o.example", ("o.example", 443, True)),
        ("[::1]:8935", ("::1", 8935, True)),
        ("https://[2001:db8::1]:1", ("2001:db8::1", 1, True)),
        ("http://o.example:8935", ("o.example", 8935, False)),
        ("http://o.example/", ("o.example", 80, False)),
    ],
)
def test_an_orchestrator_is_written_as_host_and_port_or_url(addr: str, target: tuple[str, int, bool]) -> None:
    assert grpc_target(addr) == GrpcTarget(*target)


@pytest.mark.parametrize(
    "addr",
    [
        "",
        ":8935",
        "ftp://o.example:8935",
        "o.example:99999",
        "o.example:x",
        "a b:1",
        "u:p@o.example:1",
        "o:1?x",
        "o:1#x",
        "o\x00:1",
    ],
)
def test_anything_else_is_no_orchestrator(addr: str) -> None:
    with pytest.raises(ValueError):
        grpc_target(addr)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("https://t.example/ai/trickle/m", "https://t.example/ai/trickle/m"),
        ("http://t.example:9/m", "http://t.example:9/m"),
        ("/ai/trickle/m", f"{BASE}/ai/trickle/m"),
        ("ai/trickle/m-out", f"{BASE}/ai/trickle/m-out"),
        ("//t.example/m", "https://t.example/m"),
    ],
)
def test_a_url_without_a_host_gets_the_orchestrators(url: str, whole: str) -> None:
    assert complete(url, BASE) == whole
    assert complete(url, f"{BASE}/") == whole


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://t.example/m",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///m",
        "https://u:p@t.example/",
        "https://:p@t.example/",
        "https://t.example\\@10.0.0.1/",
        "https://t.example/m?token=1",
        "/m?x",
        "https://t.example/m#x",
        "https://t.example/\x7f",
        "https://t.example:99999/",
        "https://t.example/a b",
        "https://t.example/\r\nX: y",
        "https://[::1",
        "x" * 3000,
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        complete(url, BASE)


def test_the_host_of_a_url_is_read() -> None:
    assert host("https://[::1]:8935/x") == "::1"
    assert host("no url") == ""
