from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import Request
from multidict import CIMultiDict

from gateway.http.forwarding import Forwarding, parse_networks
from gateway.http.problem import Problem

TRUSTED = parse_networks("10.0.0.0/8, 192.0.2.1")


def request(remote: str, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request("GET", "/x", headers={"Host": "inner:1", **named}).clone(remote=remote)


@pytest.mark.parametrize(
    ("remote", "forwarded_for", "client"),
    [
        ("198.51.100.7", "", "198.51.100.7"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),  # whoever asks is no trusted proxy
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, 10.2.3.4", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9, 10.2.3.4", "203.0.113.9"),  # what stands left may be a lie
        ("10.0.0.1", "10.2.3.4", "10.2.3.4"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "nonsense, 10.2.3.4", "10.2.3.4"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_a_client_is_the_last_address_that_no_trusted_proxy_has(
    remote: str, forwarded_for: str, client: str
) -> None:
    assert Forwarding(None, TRUSTED).client(request(remote, X_Forwarded_For=forwarded_for)) == client


def test_links_go_below_a_trusted_proxys_prefix() -> None:
    forwarding = Forwarding(None, TRUSTED)
    asked = request(
        "10.0.0.1", X_Forwarded_Prefix="/video/", X_Forwarded_Proto="https", X_Forwarded_Host="a.b"
    )
    assert forwarding.link(asked, "/live/x") == "/video/live/x"
    assert forwarding.url(asked, "/live/x") == "https://a.b/video/live/x"


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_Prefix": "//evil.example"},
        {"X_Forwarded_Prefix": "https://evil.example"},
        {"X_Forwarded_Host": "evil.example/path?"},
        {"X_Forwarded_Proto": "javascript"},
    ],
)
def test_headers_that_make_no_sense_are_left_out(headers: dict[str, str]) -> None:
    forwarding = Forwarding(None, TRUSTED)
    asked = request("10.0.0.1", **headers)
    assert forwarding.link(asked, "/live/x") == "/live/x"
    assert forwarding.url(asked, "/live/x") == "http://inner:1/live/x"


def test_a_strangers_headers_change_no_link() -> None:
    asked = request("198.51.100.7", X_Forwarded_Prefix="/video", X_Forwarded_Host="evil.example")
    assert Forwarding(None, TRUSTED).link(asked, "/live/x") == "/live/x"
    assert Forwarding(None, TRUSTED).url(asked, "/live/x") == "http://inner:1/live/x"


def test_the_external_url_beats_what_proxies_say() -> None:
    forwarding = Forwarding("https://video.example/gw", TRUSTED)
    asked = request("10.0.0.1", X_Forwarded_Prefix="/video")
    assert forwarding.link(asked, "/live/x") == "https://video.example/gw/live/x"
    assert forwarding.url(asked, "/live/x") == "https://video.example/gw/live/x"


def test_a_proxys_own_line_counts_and_not_the_clients() -> None:
    lines = CIMultiDict({"Host": "inner:1"})
    for name, forged, told in [
        ("X-Forwarded-For", "1.1.1.1", "203.0.113.9"),
        ("X-Forwarded-Prefix", "/evil", "/video"),
        ("X-Forwarded-Host", "evil.example", "a.b"),
        ("X-Forwarded-Proto", "http", "https"),
    ]:
        lines.extend([(name, forged), (name, told)])
    asked = make_mocked_request("GET", "/x", headers=lines).clone(remote="10.0.0.1")
    forwarding = Forwarding(None, TRUSTED)
    assert forwarding.client(asked) == "203.0.113.9"
    assert forwarding.url(asked, "/live/x") == "https://a.b/video/live/x"


@pytest.mark.parametrize(
    "host",
    ["[abc", "[....]", "[1.2.3.4]", "a]b", "a b", "user@a", "a/b", "a?", "a:\u0663", "a\u00e4", "a:b", ""],
)
def test_a_host_that_no_url_has_is_refused(host: str) -> None:
    asked = request("10.0.0.1", Host=host)
    for refused in (lambda: Forwarding().base(asked), lambda: Forwarding().url(asked, "/live/x")):
        with pytest.raises(Problem) as caught:
            refused()
        assert (caught.value.status, caught.value.code) == (400, "bad_http")
    assert Forwarding("https://video.example").url(asked, "/x") == "https://video.example/x"
    asked = request("10.0.0.1", Host="inner:1", X_Forwarded_Host=host)
    assert Forwarding(None, TRUSTED).url(asked, "/x") == "http://inner:1/x"


@pytest.mark.parametrize("host", ["a.b", "my_gateway:8935", "[::1]", "[2001:db8::1]:8935", "10.0.0.1:1"])
def test_hosts_of_all_kinds_are_told_as_they_came(host: str) -> None:
    assert urlsplit(Forwarding().url(request("10.0.0.1", Host=host), "/x")).netloc == host
