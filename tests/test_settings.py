from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from gateway.flags import FlagError
from gateway.settings import Settings, read_flags, settings_from

BIN = Path(sys.executable).parent / "livepeer-gateway"
PAID = ("-remoteSignerUrl", "http://127.0.0.1:1", "-orchAddr", "127.0.0.1:2")


def settings(*argv: str, folder: Path | None = None) -> Settings:
    extra = ("-dataDir", str(folder)) if folder else ()
    return settings_from(read_flags((*argv, *extra), {}))


def test_a_paid_network_takes_the_documented_flags(tmp_path: Path) -> None:
    chosen = settings(*PAID, "-maxPricePerUnit", "0.001ETH", folder=tmp_path)
    assert chosen.payments.ceiling == 10**15
    assert chosen.network.signer_url == "http://127.0.0.1:1"
    assert chosen.network.orchestrators == ("127.0.0.1:2",)
    assert chosen.ledger == str(tmp_path / "ledger.sqlite3")
    assert chosen.warnings == ()
    assert not chosen.data_dir_is_temporary


@pytest.mark.parametrize(
    ("argv", "first", "fallback"),
    [
        (("-comfyStreamUrl", "gpu:8889"), True, False),
        (("-devnet", "-comfyStream", "1"), False, False),
        (("-devnet", "-comfyStream", "1", "-comfyStreamFallback", "network"), True, True),
        (("-orchAddr", "x:1", "-comfyStreamUrl", "gpu", "-comfyStreamFallback", "comfystream"), False, True),
    ],
)
def test_the_fallback_names_the_second_choice(
    argv: tuple[str, ...], first: bool, fallback: bool, tmp_path: Path
) -> None:
    chosen = settings(*argv, folder=tmp_path)
    assert (chosen.comfystream.first, chosen.comfystream.fallback) == (first, fallback)


def test_a_gpu_box_needs_no_scheme_no_signer_and_no_price(tmp_path: Path) -> None:
    chosen = settings("-comfyStreamUrl", "gpu-box:8889, https://other/x/", folder=tmp_path)
    assert chosen.comfystream.urls == ("http://gpu-box:8889", "https://other/x")
    assert chosen.payments.ceiling is None


def test_both_readings_of_the_ceiling(tmp_path: Path) -> None:
    per_second = settings(*PAID, "-maxPricePerUnit", "1000000000000000", folder=tmp_path)
    per_pixel = settings(*PAID, "-maxPricePerUnit", "1200", "-pixelsPerUnit", "1", folder=tmp_path)
    assert (per_second.payments.ceiling, per_pixel.payments.ceiling) == (10**15, 1200 * 27_648_000)
    small = settings(*PAID, "-maxPricePerUnit", "1200", folder=tmp_path)
    assert small.payments.ceiling == 1200
    assert "-pixelsPerUnit 1" in small.warnings[0]


@pytest.mark.parametrize(
    ("argv", "seconds"),
    [
        ((*PAID, "-maxPricePerUnit", "1gwei"), 60),
        ((*PAID, "-maxPricePerUnit", "1gwei", "-maxTicketSeconds", "0.5"), Fraction(1, 2)),
        (("-devnet",), 60),
        (("-devnet", "-ticketSeconds", "300"), 300),
        (("-devnet", "-ticketSeconds", "300", "-maxTicketSeconds", "90"), 90),
    ],
)
def test_the_limit_of_a_ticket_follows_the_devnets_tickets_unless_given(
    argv: tuple[str, ...], seconds: Fraction, tmp_path: Path
) -> None:
    limits = settings(*argv, "-maxFaceValue", "2ETH", folder=tmp_path).payments.ticket_limits
    assert (limits.seconds, limits.face_value) == (seconds, 2 * 10**18)


@pytest.mark.parametrize(
    ("given", "host"), [(":9935", "::"), ("[::]:9935", "::"), ("0.0.0.0:9935", "0.0.0.0"), ("[::1]:1", "::1")]
)
def test_an_address_without_a_host_is_all_addresses(given: str, host: str, tmp_path: Path) -> None:
    assert settings("-orchAddr", "127.0.0.1:2", "-httpAddr", given, folder=tmp_path).http.http_addr[0] == host


def test_each_model_has_its_own_ceiling_or_the_general_one(tmp_path: Path) -> None:
    prices = (
        '{"capabilities_prices": [{"pipeline": "live-video-to-video", "model_id": "b", "price_per_unit": 7}]}'
    )
    flags = (*PAID, "-model", "a,b,a", "-maxPricePerCapability", prices)
    chosen = settings(*flags, "-maxPricePerUnit", "1ETH", folder=tmp_path)
    assert (chosen.stream.models, chosen.stream.model) == (("a", "b"), "a")
    assert [chosen.payments.ceiling_of(model) for model in "abc"] == [10**18, 7, 10**18]
    assert chosen.payments.ceiling == 10**18
    only_b = settings(*PAID, "-model", "b", "-maxPricePerCapability", prices, folder=tmp_path)
    assert (only_b.payments.ceiling, only_b.payments.ceiling_of("a")) == (7, None)
    with pytest.raises(FlagError, match="-model a has no price ceiling"):
        settings(*PAID, "-model", "b,a", "-maxPricePerCapability", prices, folder=tmp_path)


PRICED = (*PAID, "-maxPricePerUnit", "1ETH")
OPEN = ("-httpAddr", ":9935")


@pytest.mark.parametrize(
    "reach",
    [
        OPEN,
        ("-httpAddr", "192.0.2.1:1"),
        ("-externalUrl", "https://video.example"),
        ("-trustedProxies", "127.0.0.1"),
    ],
)
def test_a_paid_gateway_that_everybody_reaches_needs_guards(reach: tuple[str, ...], tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret")
    with pytest.raises(FlagError, match=r"-publishTokens or -liveAIAuthWebhookUrl.* -allowNoAuth"):
        settings(*PRICED, *reach, folder=tmp_path)
    for guard in (
        ("-allowNoAuth",),
        ("-publishTokens", str(tokens)),
        ("-liveAIAuthWebhookUrl", "http://127.0.0.1:1/"),
    ):
        assert settings(*PRICED, *reach, *guard, folder=tmp_path).http.reached_from_outside


@pytest.mark.parametrize("free", [("-devnet",), ("-orchAddr", "x:1"), ("-comfyStreamUrl", "gpu:8889")])
def test_a_gateway_that_costs_nothing_needs_no_guards(free: tuple[str, ...], tmp_path: Path) -> None:
    assert settings(*free, *OPEN, folder=tmp_path).warnings == ()


def test_a_paid_gateway_without_a_spend_limit_warns_where_others_reach_it(tmp_path: Path) -> None:
    reached = settings(*PRICED, *OPEN, "-allowNoAuth", folder=tmp_path)
    assert "-maxSpendPerHour" in reached.warnings[0]
    for limit in ("-maxSpendPerHour", "-maxSpendPerDay", "-maxSessionSpend", "-maxPublisherSpendPerDay"):
        assert settings(*PRICED, *OPEN, "-allowNoAuth", limit, "1ETH", folder=tmp_path).warnings == ()
    assert settings(*PRICED, folder=tmp_path).warnings == ()


def test_pages_of_others_use_a_gateway_only_where_somebody_guards_it_or_nothing_is_paid(
    tmp_path: Path,
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret")
    for argv, origins in (
        (PRICED, ()),
        ((*PRICED, "-publishTokens", str(tokens)), ("*",)),
        ((*PRICED, "-liveAIAuthWebhookUrl", "http://127.0.0.1:1/"), ("*",)),
        ((*PRICED, "-corsOrigins", "https://a.example, http://b:81"), ("https://a.example", "http://b:81")),
        (("-orchAddr", "x:1"), ("*",)),
        (("-devnet",), ("*",)),
    ):
        assert settings(*argv, folder=tmp_path).http.cors_origins == origins


def test_a_typo_in_the_environment_is_warned_of(tmp_path: Path) -> None:
    environ = {"LP_MAXSTREEMS": "5", "LP_EFFECT": "", "NAT_IP": "192.0.2.1"}
    chosen = settings_from(read_flags(("-orchAddr", "x:1", "-dataDir", str(tmp_path)), environ))
    assert chosen.warnings == (
        "LP_MAXSTREEMS in the environment is not a flag of livepeer-gateway: did you mean LP_MAXSTREAMS?",
    )


def test_a_devnet_brings_its_network_and_a_folder_of_its_own() -> None:
    chosen = settings("-devnet", "-prices", "7")
    try:
        assert chosen.devnet is not None
        assert chosen.devnet.prices == (Fraction(7), Fraction(7))
        assert chosen.data_dir_is_temporary
        assert chosen.data_dir.is_dir()
    finally:
        chosen.remove_temporary_data()
    assert not chosen.data_dir.exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((*PAID,), "-maxPricePerUnit is required on a paid network"),
        ((), "no orchestrator to use: -orchAddr takes"),
        (("-devnet", "-orchAddr", "x:1"), "leave out -orchAddr, or -devnet"),
        (("-devnet", "-remoteSignerUrl", "http://x"), "leave out -remoteSignerUrl, or -devnet"),
        (("-devnet", "-gateways", "0"), "-gateways '0' is refused: it takes 1 to 16"),
        (
            ("-devnet", "-nodeAddr", "0.0.0.0:1"),
            "-nodeAddr '0.0.0.0:1' is refused: it takes host:port on loop",
        ),
        (("-orchAddr", "x:1", "-effect", "grey"), "-effect is a flag of the devnet"),
        (
            ("-devnet", "-livePaymentInterval", "31s"),
            "-livePaymentInterval '31s' is refused: it takes 100ms to 30s",
        ),
        (
            ("-devnet", "-livePaymentInterval", "99ms"),
            "-livePaymentInterval '99ms' is refused: it takes 100ms",
        ),
        (("-devnet", "-tokenLife", "3m"), "-tokenLife '3m' is refused: it takes more than 3m, because"),
        (("-devnet", "-maxSigningCalls", "0"), "-maxSigningCalls '0' is refused: it takes"),
        (("-devnet", "-effect", "pink"), "-effect 'pink' is refused: it takes one of"),
        ((*PAID, "-maxPricePerUnit", "1ETH", "-pixelsPerUnit", "1"), "-pixelsPerUnit 1 is refused"),
        (("-devnet", "-pixelsPerUnit", "1"), "needs -maxPricePerUnit"),
        (("-devnet", "-maxPricePerUnit", "0.5"), "-maxPricePerUnit '0.5' is refused"),
        (("-devnet", "-iceGrace", "31s"), "-iceGrace '31s' is refused"),
        (("-devnet", "-icePublicIP", "300.1.1.1"), "-icePublicIP '300.1.1.1' is refused"),
        (("-devnet", "-iceUdpPortRange", "500-400"), "-iceUdpPortRange '500-400' is refused"),
        (("-devnet", "-iceUdpMuxPort", "0"), "-iceUdpMuxPort '0' is refused"),
        (("-devnet", "-iceUdpMuxPort", "5", "-iceUdpPortRange", "5-9"), "leave out -iceUdpPortRange"),
        (("-orchAddr", "x:1", "-dataDir", "/proc/nothing"), "-dataDir /proc/nothing cannot be made"),
        (("-devnet", "-httpsKey", "key.pem"), "-httpsKey needs -httpsCert"),
        (("-devnet", "-httpsKey", "no.pem", "-httpsCert", "no.pem"), "-httpsCert no.pem is refused"),
        (("-devnet", "-playTokens", "/nothing"), "-playTokens /nothing is refused"),
        (("-devnet", "-liveAIHeartbeatInterval", "1ms"), "'1ms' is refused: it takes 100ms or more"),
        (("-devnet", "-connectTimeout", "0s"), "-connectTimeout '0s' is refused"),
        (("-devnet", "-corsOrigins", "video.example"), "-corsOrigins 'video.example' is refused"),
        (("-devnet", "-corsOrigins", "https://video.example/"), "-corsOrigins 'https://video.example/' is"),
        (("-devnet", "-trustedProxies", "everybody"), "-trustedProxies 'everybody' is refused"),
        (("-comfyStreamUrl", "ftp://gpu"), "-comfyStreamUrl 'ftp://gpu' is refused"),
        (("-devnet", "-comfyStreamFallback", "network"), "needs -comfyStreamUrl"),
        (("-comfyStreamUrl", "gpu:8889", "-comfyStreamFallback", "network"), "needs a network: -orchAddr"),
        (("-devnet", "-comfyWorkflow", "/nothing"), "-comfyWorkflow /nothing is refused"),
        (("-devnet", "-comfyStream", "17"), "-comfyStream '17' is refused: it takes 0 to 16"),
    ],
)
def test_flags_that_do_not_fit_are_one_sentence(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(FlagError) as error:
        settings(*argv)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("iceServers", "turn:me:pa55word"),
        ("remoteSignerHeaders", "pa55word"),
        ("orchAddr", "o.example:1, https://me:pa55word@o.example:2"),
        ("orchAddr", "me:pa55word@o.example:1"),
        ("liveAIHeartbeatHeaders", "pa55word"),
        ("liveAIAuthWebhookUrl", "ftp://me:pa55word@accounts.example"),
        ("comfyStreamUrl", "gpu, ftp://me:pa55word@gpu-2"),
        ("externalUrl", "https://me:pa55word@video.example/?a=b"),
    ],
)
def test_a_password_in_a_refused_flag_is_not_repeated(flag: str, value: str) -> None:
    with pytest.raises(FlagError, match=rf"^-{flag} is refused") as error:
        settings("-devnet", f"-{flag}", value)
    assert "pa55word" not in str(error.value)


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (("-version",), 0),
        (("-help",), 0),
        (("-nonsense",), 2),
        (("-devnet", "-orchAddr", "x:1"), 2),
        (("-remoteSignerUrl", "http://127.0.0.1:1", "-orchAddr", "x:1", "-maxPricePerUnit", "1ETH"), 1),
        ((*PRICED, *OPEN), 2),
        (("-orchAddr", "127.0.0.1:2", "-httpAddr", "192.0.2.77:1"), 1),
    ],
)
def test_the_daemon_ends_with_the_documented_status_and_one_sentence(
    argv: tuple[str, ...], status: int, tmp_path: Path
) -> None:
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    ended = subprocess.run(
        [BIN, *argv], check=False, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == status, ended.stderr
    if status:
        sentences = [line for line in ended.stderr.splitlines() if line.startswith("livepeer-gateway: ")]
        assert len(sentences) == 1
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("given", "kept"), [((), 90 * 86_400 * 10**9), (("-ledgerKeep", "1h30m"), 5400 * 10**9)]
)
def test_single_payments_are_kept_for_90_days_or_as_long_as_is_said(
    given: tuple[str, ...], kept: int, tmp_path: Path
) -> None:
    assert settings("-orchAddr", "x:1", *given, folder=tmp_path).ledger_keep == kept
    assert settings("-orchAddr", "x:1", "-ledgerKeep", "0", folder=tmp_path).ledger_keep is None


def test_a_data_directory_that_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    settings("-orchAddr", "x:1", folder=tmp_path / "made" / "here")
    assert [
        f"{folder.stat().st_mode & 0o777:o}" for folder in (tmp_path / "made", tmp_path / "made" / "here")
    ] == [
        "700",
        "700",
    ]


def test_dollars_need_a_rate(tmp_path: Path) -> None:
    in_usd = (*PAID, "-maxPricePerUnit", "0.50USD/h")
    chain = ("-ethUrl", "http://127.0.0.1:1", "-network", "arbitrum-one-mainnet")
    for flags in (in_usd, (*PRICED, "-maxSpendPerDay", "5USD"), (*PRICED, "-maxSessionSpend", "0.1USD")):
        with pytest.raises(FlagError, match="-ethUsd"):
            settings(*flags, folder=tmp_path)
        for rate in (("-ethUsd", "3000"), chain):
            assert settings(*flags, *rate, folder=tmp_path).payments.uses_usd
    known = settings(*in_usd, *chain, folder=tmp_path).chain
    assert known is not None
    assert known.network.price_feed == "0x639Fe6ab55C921f74e7fac1ee960C0B6293ba612"
    with pytest.raises(FlagError, match="needs -ethUrl"):
        settings(*PRICED, "-priceFeedAddr", "0x" + "11" * 20, folder=tmp_path)
    assert not settings(*PRICED, folder=tmp_path).payments.uses_usd


@pytest.mark.parametrize(
    ("flags", "address"),
    [
        ((), None),
        (("-externalUrl", "https://video.example"), ("127.0.0.1", 5935)),
        (("-trustedProxies", "127.0.0.1"), ("127.0.0.1", 5935)),
        (("-httpAddr", ":9935"), ("127.0.0.1", 5935)),
        (("-externalUrl", "https://video.example", "-cliAddr", "127.0.0.1:9935"), None),
        (("-externalUrl", "https://video.example", "-cliAddr", "127.0.0.1:1"), ("127.0.0.1", 1)),
    ],
)
def test_operator_routes_are_not_where_a_proxy_sends_strangers(
    flags: tuple[str, ...], address: tuple[str, int] | None, tmp_path: Path
) -> None:
    assert settings("-orchAddr", "x:1", *flags, folder=tmp_path).http.cli_addr == address


@pytest.mark.parametrize("key", ["-----BEGIN PUBLIC KEY-----\nAAAAAAAA", "ssh-ed25519 AAAAAAAAAAAAAAAAAAAAA"])
def test_a_key_file_is_no_secret_for_tokens(key: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(key)
    with pytest.raises(FlagError, match="no PEM or SSH key"):
        settings("-orchAddr", "x:1", "-jwtSecret", str(tmp_path / "key"), folder=tmp_path)
