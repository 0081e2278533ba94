"""The flags that concern orchestrators and the signer, and the settings that come out of them."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.flags import BOOLEAN, LIST, POSITIVE_DURATION, URL, Flag, Kind, Parsed
from gateway.orchestrator.blocklist import Blocklist, parse_entries
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.version import Version, parse_version
from signer_client.client import parse_headers

BLOCKLIST = Kind(
    "list|path",
    "Ethereum addresses, URLs or host:port, comma-separated, or a file of them",
    Blocklist.parse,
)


def _parse_orchestrators(text: str) -> tuple[str, ...]:
    addrs: tuple[str, ...] = LIST.parse(text)
    if any("@" in Listing.parse(addr).addr for addr in addrs):
        raise ValueError("an orchestrator's address has a user or password")
    return addrs


def _parse_version(text: str) -> Version:
    version = parse_version(text)
    if version is None:
        raise ValueError(text)
    return version


ORCHESTRATORS = Kind(
    LIST.name, f"{LIST.accepts}, without users and passwords", _parse_orchestrators, secret=True
)
NAMES = Kind("list", "Ethereum addresses, URLs or host:port, comma-separated", parse_entries)
VERSION = Kind("version", "three numbers such as 0.9.1", _parse_version)
HEADERS = Kind("headers", "name:value,name2:value2", parse_headers, secret=True)

NETWORK_FLAGS: tuple[Flag, ...] = (
    Flag(
        "remoteSignerUrl",
        URL,
        None,
        "Pay through this remote signer; without it or -devnet, nothing is paid",
    ),
    Flag(
        "remoteSignerHeaders",
        HEADERS,
        None,
        "Send these headers to the signer: name:value,name2:value2",
    ),
    Flag(
        "orchAddr",
        ORCHESTRATORS,
        None,
        "Use these orchestrators: [0xADDRESS@]host:port or URLs, comma-separated",
        "those that -orchWebhookUrl, the chain or the signer lists",
    ),
    Flag("orchWebhookUrl", URL, None, "Read a list of orchestrators from this URL, in addition to -orchAddr"),
    Flag(
        "discoveryInterval",
        POSITIVE_DURATION,
        "1m",
        "Read the list of the webhook or of the signer this often",
    ),
    Flag(
        "orchBlocklist",
        BLOCKLIST,
        None,
        "Never use these orchestrators: addresses, URLs or host:port, or a file",
        "nobody",
    ),
    Flag(
        "orchMinLivepeerVersion",
        VERSION,
        None,
        "Use no orchestrator that runs an older go-livepeer than this",
        "any",
    ),
    Flag(
        "orchAcceptAddressChange",
        NAMES,
        None,
        "Pay these under an address other than before: host:port, URLs or addresses",
        "nobody",
    ),
    Flag("orchVerifyTLS", BOOLEAN, "false", "Refuse orchestrators whose TLS certificate does not verify"),
)


@dataclass(frozen=True)
class NetworkSettings:
    """Who signs the payments, and where orchestrators are found."""

    signer_url: str | None
    """None: nothing is paid."""
    signer_headers: dict[str, str]
    orchestrators: tuple[str, ...]
    """host:port or URLs, after `0xADDRESS@` where only that address may be paid."""
    orchestrator_webhook: str | None
    discovery_interval: float
    """Seconds between two reads of the webhook's or the signer's list."""
    verify_tls: bool
    blocklist: Blocklist | None = None
    least_version: Version | None = None
    """Of go-livepeer; None takes any."""
    accepted_addresses: frozenset[str] = frozenset()
    """`-orchAcceptAddressChange`: hosts with ports, and addresses in lower case."""

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> NetworkSettings:
        return cls(
            signer_url=parsed["remoteSignerUrl"],
            signer_headers=parsed["remoteSignerHeaders"] or {},
            orchestrators=parsed["orchAddr"] or (),
            orchestrator_webhook=parsed["orchWebhookUrl"],
            discovery_interval=parsed["discoveryInterval"],
            verify_tls=parsed["orchVerifyTLS"],
            blocklist=parsed["orchBlocklist"],
            least_version=parsed["orchMinLivepeerVersion"],
            accepted_addresses=parsed["orchAcceptAddressChange"] or frozenset(),
        )
