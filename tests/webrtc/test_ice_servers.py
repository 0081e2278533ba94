from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.flags import FlagError, parse_flags
from gateway.webrtc.ice_servers import IceServer, parse_ice_servers
from gateway.webrtc.ice_settings import ICE_FLAGS, IceSettings


def test_servers_become_the_links_that_rfc_9725_shows() -> None:
    servers = parse_ice_servers(
        "stun:stun.example.net, turn:user:my%40Secret@turn.example.net:3479?transport=udp"
    )
    assert [server.link(0) for server in servers] == [
        '<stun:stun.example.net:3478>; rel="ice-server"',
        '<turn:turn.example.net:3479?transport=udp>; rel="ice-server"; '
        'username="user"; credential="my@Secret"; credential-type="password"',
    ]


def test_a_quote_in_a_password_cannot_end_it() -> None:
    (server,) = parse_ice_servers(r"turns:u:a%22;%5C@[2001:db8::1]")
    assert server.url == "turns:[2001:db8::1]:5349"
    assert r'credential="a\";\\"' in server.link(0)


def test_a_password_is_not_shown() -> None:
    assert "hidden" not in repr(IceServer.parse("turn:user:hidden@host"))


@pytest.mark.parametrize(
    "text",
    [
        "stun.example.net",
        "http://stun.example.net",
        "stun:user:secret@stun.example.net",
        "stun:host:99999",
        "turn:u:a%0d%0aX@host",
        "turn:u:p@host?transport=sctp",
        "stun:host?transport=udp",
    ],
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_ice_servers(text)


def test_a_shared_secret_makes_credentials_for_a_day_by_the_turn_rest_convention() -> None:
    server = replace(IceServer.parse("turn:turn.example.net"), secret="north")
    credentials = server.credentials(1_700_000_000.5)
    # printf 1700086400:gateway | openssl dgst -sha1 -hmac north -binary | base64
    assert credentials == ("1700086400:gateway", "kh9FDaSpr7iMrVYhIUH93Zv7cts=")
    assert f'username="{credentials[0]}"; credential="{credentials[1]}"' in server.link(1_700_000_000.5)
    assert "north" not in repr(server)
    assert server.credentials(1_700_000_000) != server.credentials(1_700_000_060)


def settings(*words: str) -> IceSettings:
    return IceSettings.from_parsed(parse_flags(ICE_FLAGS, words, {}, program="gateway"))


def test_the_secret_is_for_turn_servers_without_credentials_of_their_own() -> None:
    named = "stun:a.example,turn:b.example,turn:user:pass@c.example"
    stun, bare, own = settings("-iceServers", named, "-turnSecret", "north").servers
    assert (stun.secret, bare.secret, own.secret) == (None, "north", None)
    with pytest.raises(FlagError, match="-turnSecret"):
        settings("-iceServers", named)
    with pytest.raises(FlagError, match="without user:password@"):
        settings("-iceServers", "turn:user:pass@c.example", "-turnSecret", "north")
