from __future__ import annotations

import pytest

from gateway.webrtc.ice_servers import IceServer, parse_ice_servers


def test_servers_become_the_links_that_rfc_9725_shows() -> None:
    servers = parse_ice_servers(
        "stun:stun.example.net, turn:user:my%40Secret@turn.example.net:3479?transport=udp"
    )
    assert [server.link for server in servers] == [
        '<stun:stun.example.net:3478>; rel="ice-server"',
        '<turn:turn.example.net:3479?transport=udp>; rel="ice-server"; '
        'username="user"; credential="my@Secret"; credential-type="password"',
    ]


def test_a_quote_in_a_password_cannot_end_it() -> None:
    (server,) = parse_ice_servers(r"turns:u:a%22;%5C@[2001:db8::1]")
    assert server.url == "turns:[2001:db8::1]:5349"
    assert r'credential="a\";\\"' in server.link


def test_a_password_is_not_shown() -> None:
    assert "hidden" not in repr(IceServer.parse("turn:user:hidden@host"))


@pytest.mark.parametrize(
    "text",
    [
        "stun.example.net",
        "http://stun.example.net",
        "turn:turn.example.net",
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
