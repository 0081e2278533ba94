"""WHIP and WHEP sessions over HTTP: headers, PATCH, refusals, on one daemon for all tests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from harness.gateway import GatewayProcess, gateway_process
from tests.e2e.sessions import PUBLISH, SDP, WATCH

FRAGMENT = "application/trickle-ice-sdpfrag"
CANDIDATE = "a=candidate:1 1 udp 2122260223 127.0.0.1 9 typ host\r\n"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    flags = (
        *(),
        *("-trustedProxies", "127.0.0.1", "-cliAddr", "127.0.0.1:0"),
        *("-iceServers", "stun:stun.example:3478,turn:u:p@turn.example?transport=udp"),
        *("-icePublicIP", "192.0.2.1"),  # so that the gateway itself asks none of them
    )
    async with gateway_process(tmp_path_factory.mktemp("http"), *flags) as gateway:
        yield gateway


@pytest_asyncio.fixture(loop_scope="module", params=["whip", "whep"])
async def session(
    gateway: GatewayProcess, request: pytest.FixtureRequest
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A 201 to a client that never connects; its session is deleted afterwards."""
    offer = PUBLISH if request.param == "whip" else WATCH
    async with gateway.http.post(gateway.live(f"cam/{request.param}"), data=offer, headers=SDP) as response:
        assert response.status == 201, await response.text()
        await response.read()
        yield response
    async with gateway.http.delete(location(gateway, response)) as deleted:
        assert deleted.status == 200
    await gateway.given_back(after="the session")


def location(gateway: GatewayProcess, created: aiohttp.ClientResponse) -> str:
    return gateway.url.rstrip("/") + created.headers["Location"]


async def test_a_201_says_all_that_a_client_needs(
    gateway: GatewayProcess, session: aiohttp.ClientResponse
) -> None:
    kind = session.url.name
    assert re.fullmatch(rf"/live/video-to-video/cam/{kind}/[0-9a-f]+", session.headers["Location"])
    assert re.fullmatch(r'"[^"]+"', session.headers["ETag"])
    assert session.headers.getall("Link") == [
        '<stun:stun.example:3478>; rel="ice-server"',
        '<turn:turn.example:3478?transport=udp>; rel="ice-server"; '
        'username="u"; credential="p"; credential-type="password"',
    ]
    assert session.headers["Accept-Patch"] == FRAGMENT
    exposed = session.headers["Access-Control-Expose-Headers"]
    assert {"Location", "ETag", "Link", "Livepeer-Playback-URL"} <= set(exposed.split(", "))
    playback = session.headers.get("Livepeer-Playback-URL")
    assert playback == ("/live/video-to-video/cam/whep" if kind == "whip" else None)


async def test_candidates_may_follow(gateway: GatewayProcess, session: aiohttp.ClientResponse) -> None:
    ufrag = re.search(r"a=ice-ufrag:(\S+)", PUBLISH if session.url.name == "whip" else WATCH)
    assert ufrag is not None
    etag = session.headers["ETag"]
    media = "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
    own = f"a=ice-ufrag:{ufrag[1]}\r\na=ice-pwd:{'x' * 24}\r\n{media}{CANDIDATE}"
    restart = f"a=ice-ufrag:other\r\na=ice-pwd:{'x' * 24}\r\n{CANDIDATE}"
    for if_match, body, content_type, status, code in [
        (etag, own, FRAGMENT, 204, None),
        (f'"other", {etag}', own, FRAGMENT, 204, None),
        (etag, own + "a=end-of-candidates\r\n", FRAGMENT, 204, None),
        ("*", restart, FRAGMENT, 422, "ice_restart"),
        (etag, restart, FRAGMENT, 422, "ice_restart"),
        ('"other"', own, FRAGMENT, 412, "if_match_failed"),
        (None, own, FRAGMENT, 428, "if_match_missing"),
        (etag, own, "application/sdp", 415, "unsupported_media_type"),
        (etag, "", FRAGMENT, 400, "bad_sdp"),
        (etag, "a=nothing\r\n", FRAGMENT, 400, "bad_sdp"),
        (etag, "x" * 70_000, FRAGMENT, 413, "too_large"),
    ]:
        headers = {"Content-Type": content_type} | ({"If-Match": if_match} if if_match else {})
        async with gateway.http.patch(location(gateway, session), data=body, headers=headers) as response:
            said = await response.text()
            assert response.status == status, said
            if code is None:
                assert said == ""
            else:
                assert f'"code": "{code}"' in said
    async with gateway.http.patch(location(gateway, session) + "0", headers={"If-Match": "*"}) as response:
        assert response.status == 404


async def test_delete_is_idempotent_and_needs_no_etag(
    gateway: GatewayProcess, session: aiohttp.ClientResponse
) -> None:
    for _ in range(3):
        async with gateway.http.delete(
            location(gateway, session), headers={"If-Match": '"other"'}
        ) as response:
            assert response.status == 200


async def test_a_deleted_name_is_free_at_once(gateway: GatewayProcess) -> None:
    for _ in range(5):
        async with gateway.http.post(gateway.live("cam/whip"), data=PUBLISH, headers=SDP) as response:
            assert response.status == 201
        async with gateway.http.delete(location(gateway, response)) as deleted:
            assert deleted.status == 200


async def test_a_session_answers_to_its_own_name_only(
    gateway: GatewayProcess, session: aiohttp.ClientResponse
) -> None:
    other = location(gateway, session).replace("/cam/", "/other/")
    async with gateway.http.delete(other) as response:
        assert response.status == 200
    state = await gateway.get("debug/state")
    assert state["streams"] + state["viewers"] == 1


@pytest.mark.parametrize(
    ("path", "allow", "accepts"),
    [
        ("cam/whip", "OPTIONS, POST", {"Accept-Post": "application/sdp"}),
        ("cam/whep", "OPTIONS, POST", {"Accept-Post": "application/sdp"}),
        ("cam/whip/0", "DELETE, OPTIONS, PATCH", {"Accept-Patch": FRAGMENT}),
        ("cam/whep/0", "DELETE, OPTIONS, PATCH", {"Accept-Patch": FRAGMENT}),
        ("cam/update", "OPTIONS, POST", {"Accept-Post": "application/json"}),
        ("cam/status", "GET, OPTIONS, HEAD", {}),
    ],
)
async def test_options_says_what_a_path_takes(
    path: str, allow: str, accepts: dict[str, str], gateway: GatewayProcess
) -> None:
    async with gateway.http.options(gateway.live(path)) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Methods"] == response.headers["Allow"] == allow
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        said = {name: response.headers.get(name) for name in ("Accept-Post", "Accept-Patch")}
        assert said == {"Accept-Post": None, "Accept-Patch": None} | accepts


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "cam/whip"), ("PUT", "cam/whep"), ("POST", "cam/whip/0")]
)
async def test_other_methods_are_405(method: str, path: str, gateway: GatewayProcess) -> None:
    async with gateway.http.request(method, gateway.live(path)) as response:
        assert response.status == 405
        assert "OPTIONS" in response.headers["Allow"]


async def test_behind_a_trusted_proxy_links_go_below_its_prefix(gateway: GatewayProcess) -> None:
    headers = SDP | {"X-Forwarded-Prefix": "/video"}
    async with gateway.http.post(gateway.live("cam/whip"), data=PUBLISH, headers=headers) as response:
        assert response.status == 201
        assert response.headers["Location"].startswith("/video/live/video-to-video/cam/whip/")
        assert response.headers["Livepeer-Playback-URL"] == "/video/live/video-to-video/cam/whep"
        path = response.headers["Location"].removeprefix("/video/")
    async with gateway.http.delete(gateway.url + path) as response:
        assert response.status == 200


async def test_an_offer_without_h264_is_told_which_codecs_are_accepted(gateway: GatewayProcess) -> None:
    offer = re.sub(r"H264/90000", "VP8/90000", PUBLISH)
    async with gateway.http.post(gateway.live("cam/whip"), data=offer, headers=SDP) as response:
        problem = await response.json(content_type=None)
        assert (response.status, problem["code"]) == (406, "no_common_codec")
        assert "H264/90000" in problem["detail"]
        assert "opus/48000/2" in problem["detail"]
