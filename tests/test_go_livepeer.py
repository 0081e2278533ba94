"""go-livepeer's flags and variables are taken."""

from __future__ import annotations

import pytest

from gateway.flags import FlagError
from gateway.go_livepeer import ALSO_OURS, DEVNETS, GO_FLAGS, GO_VARIABLES
from gateway.settings import ALL_FLAGS, GATEWAY_FLAGS, read_flags, settings_from

OURS = {flag.name for flag in GATEWAY_FLAGS}
ALONE = {flag.name for flag in GO_FLAGS}


def test_each_of_its_flags_is_in_one_place() -> None:
    assert len(ALONE) == len(GO_FLAGS)
    assert ALONE.isdisjoint({flag.name for flag in ALL_FLAGS})
    assert set(ALSO_OURS) <= OURS
    assert OURS.isdisjoint(DEVNETS)
    assert {variable.flag for variable in GO_VARIABLES} <= OURS | {""}


def test_a_command_line_of_its_gateway_works_as_it_is() -> None:
    parsed = read_flags(
        [
            *("-gateway", "-network", "arbitrum-one-mainnet", "-httpAddr", "127.0.0.1:9935", "-v", "6"),
            *("-remoteSignerUrl", "http://127.0.0.1:8936", "-orchAddr", "127.0.0.1:8935", "-monitor=true"),
            *(
                "-maxPricePerUnit",
                "1500",
                "-pixelsPerUnit",
                "1",
                "-maxSessions",
                "10",
                "-ethPassword",
                "secret",
            ),
            *("-maxTicketEV", "3000000000000", "-maxTotalEV", "20000000000000", "-selectRandFreq", "0.3"),
        ],
        {},
    )
    limits = settings_from(parsed).payments.ticket_limits
    assert (limits.value, limits.first_payment) == (3 * 10**12, 2 * 10**13)
    assert parsed.warnings == [
        "-gateway of go-livepeer has no effect here: that is what this is",
        "-maxSessions of go-livepeer has no effect here: use -maxStreams",
        "-selectRandFreq of go-livepeer has no effect here: "
        "orchestrators are taken by price, then by what they delivered",
        "-ethPassword of go-livepeer has no effect here: the remote signer's: it has the key, and pays",
        "-monitor of go-livepeer has no effect here: GET /metrics is always served",
    ]


@pytest.mark.parametrize(
    "flag", ["orchestrator", "transcoder", "aiWorker", "remoteSigner", "redeemer", "reward"]
)
def test_another_program_is_refused(flag: str) -> None:
    with pytest.raises(FlagError, match=f"-{flag} is refused: run go-livepeer for that"):
        read_flags([f"-{flag}"], {})
    assert read_flags([f"-{flag}=false"], {}).warnings


def test_its_variables_are_ours_by_other_names() -> None:
    parsed = read_flags(
        [],
        {
            "LIVE_AI_WHIP_ADDR": ":7280",
            "LIVE_AI_WHEP_ADDR": ":7281",
            "LIVE_AI_NAT_IP": "203.0.113.9",
            "LIVE_AI_WHEP_MAX_SESSIONS": "unlimited",
            "LIVE_AI_WHEP_URL": "https://video.example/live/video-to-video/",
            "LIVE_AI_ALLOW_CORS": "1",
        },
    )
    assert parsed["iceUdpMuxPort"] == 7280
    assert parsed["icePublicIP"] == ("203.0.113.9",)
    assert parsed["maxViewers"] == 0
    assert parsed["externalUrl"] == "https://video.example"
    assert parsed["corsOrigins"] == ("*",)
    assert len(parsed.warnings) == 6
    assert parsed.warnings[0] == (
        "LIVE_AI_WHIP_ADDR is deprecated: use -iceUdpMuxPort, or LP_ICEUDPMUXPORT "
        "(its port is that of all media)"
    )


def test_our_own_variables_and_flags_go_first() -> None:
    environ = {"LIVE_AI_NAT_IP": "203.0.113.9", "LP_ICEPUBLICIP": "203.0.113.1"}
    assert read_flags([], environ)["icePublicIP"] == ("203.0.113.1",)
    assert read_flags(["-icePublicIP", "203.0.113.2"], environ)["icePublicIP"] == ("203.0.113.2",)


def test_a_value_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(FlagError, match="-iceUdpMuxPort"):
        read_flags([], {"LIVE_AI_WHIP_ADDR": "nowhere"})
