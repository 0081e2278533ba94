"""Which of an orchestrator's URLs are taken."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.orchestrator.urls import GrpcTarget, complete, grpc_target, host, literal, refuse_private

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
    ["", ":8935", "ftp://o.example:8935", "o.example:99999", "o.example:x", "a b:1", "u:p@o.example:1"],
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


INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
]


@pytest.mark.parametrize("address", INSIDE)
@pytest.mark.parametrize("home", ["8.8.8.8", "2606:4700::1111", "10.9.9.9", "192.0.2.7"])
def test_an_address_inside_is_refused_where_the_orchestrator_is_elsewhere(address: str, home: str) -> None:
    with pytest.raises(ValueError, match="in a private network"):
        refuse_private("https://t.example/m", [ip_address(address)], [ip_address(home)])


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_taken_where_the_orchestrator_itself_is_there(address: str) -> None:
    refuse_private("https://t.example/m", [ip_address(address)], [ip_address(address)])


@pytest.mark.parametrize("other", ["127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0"])
def test_all_of_loopback_is_one_place(other: str) -> None:
    refuse_private("https://t.example/m", [ip_address(other)], [ip_address("127.0.0.1")])


def test_another_public_host_is_taken() -> None:
    refuse_private("https://t.example/m", [ip_address("1.1.1.1")], [ip_address("8.8.8.8")])


def test_one_bad_address_of_a_name_is_enough() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1"):
        refuse_private("https://t.example/", [ip_address("1.1.1.1"), ip_address("10.0.0.1")], [])


def test_names_are_told_from_addresses() -> None:
    assert literal("10.0.0.1") == ip_address("10.0.0.1")
    assert literal("o.example") is None
    assert host("https://[::1]:8935/x") == "::1"
    assert host("no url") == ""
