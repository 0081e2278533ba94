"""The devnet's parts as programs with flags: `livepeer-devnet signer`, `runner` and so on.

A part's modules are imported when it starts, so that no part loads another's.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from gateway.devnet.ai_models import PIPELINE
from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.go_texts import decode_json
from gateway.devnet.settings import DEVNET_FLAGS, HOSTILE, PRICE, RELEASES, ai_models
from gateway.flags import ADDRESS, BOOLEAN, INTEGER, LIST, PATH, TEXT, URL, Flag, FlagError, Parsed, choice
from gateway.money import text

Ready = dict[str, Any]
Stop = Callable[[], Awaitable[None]]

COMMON_FLAGS: tuple[Flag, ...] = (
    Flag("config", PATH, None, "Read flags from this file, one 'name value' a line"),
    Flag("v", INTEGER, "3", "Set the log level as go-livepeer does: 0 errors, 3 events, 6 everything"),
    Flag("logFormat", choice("text", "json"), "text", "Write log lines in this format"),
)
KEY_FLAG = Flag(
    "keyFile", PATH, None, "Use the Ethereum key in this file (hex), made where there is none", "a new key"
)

HOSTILE_FLAG = Flag("hostile", choice(*HOSTILE), "none", "Cheat those who pay in this way")
SECRET_FLAG = Flag("orchSecret", TEXT, None, "Have apps register with this secret", "a new one")


@dataclass(frozen=True, slots=True)
class Part:
    """`start` starts it; returns its ready line and the function that stops it."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    start: Callable[[Parsed], Coroutine[Any, Any, tuple[Ready, Stop]]]


def _shared(*names: str) -> tuple[Flag, ...]:
    table = {flag.name: flag for flag in DEVNET_FLAGS}
    return tuple(table[name] for name in names)


async def _start_runner(flags: Parsed) -> tuple[Ready, Stop]:
    from gateway.devnet.runner.server import Runner, RunnerConfig

    host, port = flags["addr"]
    runner = Runner(RunnerConfig(host=host, port=port, effect=flags["effect"]))
    return {"runner": await runner.start()}, runner.stop


async def _start_comfystream(flags: Parsed) -> tuple[Ready, Stop]:
    from gateway.devnet.comfystream.server import ComfyStream, ComfyStreamConfig

    host, port = flags["addr"]
    server = ComfyStream(
        ComfyStreamConfig(host=host, port=port, effect=flags["effect"], warm_up=flags["comfyStreamWarmUp"])
    )
    return {"url": await server.start()}, server.stop


async def _start_signer(flags: Parsed) -> tuple[Ready, Stop]:
    from gateway.devnet.signer import ListedOrchestrator, SignerConfig, serve

    host, port = flags["addr"]
    signer = await serve(
        SignerConfig(
            key=read_key(flags["keyFile"]),
            host=host,
            port=port,
            preload=_exact(flags["preload"]),
            clock=ChainClock(block_time=flags["blockTime"]),
            dialect=flags["dialect"],
            orchestrators=[
                *(ListedOrchestrator(address=addr) for addr in flags["orchAddr"] or ()),
                *(ListedOrchestrator(address=url, runners=True) for url in flags["runnerUrls"] or ()),
            ],
        )
    )
    ready = {"signer": signer.url, "address": signer.address, "audit_url": signer.audit_url}
    return ready, signer.stop


async def _start_orchestrator(flags: Parsed) -> tuple[Ready, Stop]:
    from gateway.devnet.account import Account
    from gateway.devnet.orchestrator.conduct import CONDUCTS
    from gateway.devnet.orchestrator.config import OnChain, OrchestratorConfig
    from gateway.devnet.orchestrator.offer import ModelTerms
    from gateway.devnet.orchestrator.server import serve

    if (flags["ethUrl"] is None) != (flags["ethController"] is None):
        raise FlagError("-ethUrl and -ethController must be given together")
    url, controller = flags["ethUrl"], flags["ethController"]
    chain = None if url is None else OnChain(url=url, controller=controller)
    model, *others = ai_models(flags["aiModels"])
    price: Fraction = model.price if flags["price"] is None else flags["price"]
    host, port = flags["addr"]
    key = read_key(flags["keyFile"])
    orchestrator = await serve(
        OrchestratorConfig(
            key=key,
            recipient=Account(cold_key(key)).raw_address if flags["hotCold"] else None,
            release=RELEASES[flags["release"]],
            conduct=CONDUCTS[flags["hostile"]],
            auto_adjust_price=flags["autoAdjustPrice"],
            runner_url=model.url,
            price_wei_per_second=price,
            model=model.model_id,
            pipeline=PIPELINE,
            warm=model.warm,
            other_models={one.model_id: ModelTerms(price=one.price, warm=one.warm) for one in others},
            capacity=flags["capacity"],
            host=host,
            port=port,
            ticket_seconds=flags["ticketSeconds"],
            debit_interval=flags["debitInterval"],
            debit_rate=flags["debitRate"],
            token_life=flags["tokenLife"],
            clock=ChainClock(block_time=flags["blockTime"]),
            face_value_multiple=flags["faceValueMultiple"],
            chain=chain,
        )
    )
    where = orchestrator.where
    ready = {
        "addr": where.addr,
        "url": where.url,
        "address": where.address,
        "recipient": where.recipient,
        "price_wei_per_second": text(price),
        "audit_url": where.audit_url,
    }
    return ready, orchestrator.stop


async def _start_live_orchestrator(flags: Parsed) -> tuple[Ready, Stop]:
    from gateway.devnet.live_runners.config import LiveConfig
    from gateway.devnet.live_runners.dialect import DIALECTS
    from gateway.devnet.live_runners.server import serve
    from gateway.devnet.orchestrator.conduct import CONDUCTS

    host, port = flags["addr"]
    secret = flags["orchSecret"] or secrets.token_hex(16)
    orchestrator = await serve(
        LiveConfig(
            key=read_key(flags["keyFile"]),
            dialect=DIALECTS[flags["dialect"]],
            secret=secret,
            paid=not flags["offchain"],
            host=host,
            port=port,
            ticket_seconds=flags["ticketSeconds"],
            debit_rate=flags["debitRate"],
            token_life=flags["tokenLife"],
            face_value_multiple=flags["faceValueMultiple"],
            conduct=CONDUCTS[flags["hostile"]],
            clock=ChainClock(block_time=flags["blockTime"]),
            static_runners=read_static_runners(flags["liveRunnerConfig"]),
        )
    )
    where = orchestrator.where
    ready = {"url": where.url, "address": where.address, "audit_url": where.audit_url, "secret": secret}
    return ready, orchestrator.stop


async def _start_app(flags: Parsed) -> tuple[Ready, Stop]:
    from gateway.devnet.app.config import APPS, AppConfig
    from gateway.devnet.app.server import serve
    from gateway.devnet.live_runners.price import usd_per_hour
    from gateway.devnet.orchestrator.conduct import CONDUCTS

    host, port = flags["addr"]
    app = await serve(
        AppConfig(
            host=host,
            port=port,
            orchestrator=flags["orchAddr"],
            secret=flags["orchSecret"] or "",
            app=APPS[flags["appStart"]],
            price=usd_per_hour(flags["price"]),
            unit=flags["runnerUnit"],
            capacity=flags["capacity"],
            warm_up=flags["appWarmUp"],
            text=flags["appText"],
            conduct=CONDUCTS[flags["hostile"]],
        )
    )
    return {"url": app.url}, app.stop


async def _start_chain(flags: Parsed) -> tuple[Ready, Stop]:
    try:
        from gateway.devnet.chain.server import ChainConfig, serve
    except ImportError as error:
        raise OSError(
            f"a chain needs requirements-chain.lock, which scripts/run -chain installs: {error}"
        ) from error

    host, port = flags["addr"]
    chain = await serve(
        ChainConfig(
            host=host,
            port=port,
            clock=ChainClock(block_time=flags["blockTime"]),
            deposit=flags["deposit"],
            reserve=flags["reserve"],
            unlock_rounds=flags["unlockPeriod"],
        )
    )
    return {"url": chain.url, "controller": chain.evm.controller.address}, chain.stop


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part(
            "chain",
            "a chain with the protocol's contracts, served by JSON-RPC",
            (
                Flag("addr", ADDRESS, "127.0.0.1:0", "Listen on this address; port 0 takes a free one"),
                *_shared("blockTime", "deposit", "reserve", "unlockPeriod"),
                *COMMON_FLAGS,
            ),
            _start_chain,
        ),
        Part(
            "signer",
            "a remote signer with a key of its own",
            (
                Flag("addr", ADDRESS, "127.0.0.1:0", "Listen on this address; port 0 takes a free one"),
                KEY_FLAG,
                Flag("orchAddr", LIST, None, "List these orchestrators in its discovery"),
                Flag("runnerUrls", LIST, None, "List these orchestrators of live runners in its discovery"),
                *_shared("preload", "blockTime", "dialect"),
                *COMMON_FLAGS,
            ),
            _start_signer,
        ),
        Part(
            "orchestrator",
            "an orchestrator: sells a runner's work for tickets",
            (
                Flag("addr", ADDRESS, "127.0.0.1:0", "Listen on this address; port 0 takes a free one"),
                KEY_FLAG,
                HOSTILE_FLAG,
                Flag(
                    "price", PRICE, None, "Set the first model's price in wei per second", "that in -aiModels"
                ),
                *_shared(
                    "aiModels",
                    "ticketSeconds",
                    "debitInterval",
                    "debitRate",
                    "capacity",
                    "blockTime",
                    "tokenLife",
                    "faceValueMultiple",
                    "release",
                    "autoAdjustPrice",
                    "hotCold",
                ),
                Flag("ethUrl", URL, None, "Redeem winning tickets on the chain at this RPC endpoint"),
                Flag("ethController", TEXT, None, "Use the Controller contract at this address"),
                *COMMON_FLAGS,
            ),
            _start_orchestrator,
        ),
        Part(
            "live-orchestrator",
            "an orchestrator of live runners: sells sessions at apps for tickets",
            (
                Flag("addr", ADDRESS, "127.0.0.1:0", "Listen on this address; port 0 takes a free one"),
                KEY_FLAG,
                SECRET_FLAG,
                Flag(
                    "liveRunnerConfig",
                    PATH,
                    None,
                    "Serve the runners in this file too, while they are healthy",
                ),
                HOSTILE_FLAG,
                Flag("offchain", BOOLEAN, "false", "Give sessions for nothing"),
                *_shared(
                    "dialect",
                    "ticketSeconds",
                    "debitRate",
                    "blockTime",
                    "tokenLife",
                    "faceValueMultiple",
                ),
                *COMMON_FLAGS,
            ),
            _start_live_orchestrator,
        ),
        Part(
            "app",
            "an app of live runners: changes the picture",
            (
                Flag("addr", ADDRESS, "127.0.0.1:0", "Listen on this address; port 0 takes a free one"),
                Flag("orchAddr", URL, None, "Register at the orchestrator of live runners with this URL"),
                SECRET_FLAG,
                Flag("price", PRICE, "1000000000000000", "Set the price in wei per second"),
                HOSTILE_FLAG,
                *_shared("runnerUnit", "capacity", "appStart", "appWarmUp", "appText"),
                *COMMON_FLAGS,
            ),
            _start_app,
        ),
        Part(
            "runner",
            "an AI worker that changes the picture",
            (
                Flag("addr", ADDRESS, "127.0.0.1:8188", "Listen on this address; port 0 takes a free one"),
                *_shared("effect"),
                *COMMON_FLAGS,
            ),
            _start_runner,
        ),
        Part(
            "comfystream",
            "a ComfyStream server: changes the picture, over WebRTC",
            (
                Flag("addr", ADDRESS, "127.0.0.1:8889", "Listen on this address; port 0 takes a free one"),
                *_shared("effect", "comfyStreamWarmUp"),
                *COMMON_FLAGS,
            ),
            _start_comfystream,
        ),
    )
}


def read_key(path: Path | None) -> bytes:
    """The 32-byte key in a file of hex digits; a missing file is written with a new key.

    Raises FlagError for a file with other content.
    """
    if path is None:
        return secrets.token_bytes(32)
    try:
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip().removeprefix("0x"))
    except (OSError, ValueError) as error:
        raise FlagError(f"-keyFile {path} is refused ({error}): give a file of 64 hex digits") from error
    if len(key) != 32:
        raise FlagError(f"-keyFile {path} is refused: give a file of 64 hex digits")
    return key


def read_static_runners(path: Path | None) -> list[dict[str, Any]]:
    """The `runners` of a file as go-livepeer's `-liveRunnerConfig` has it. Raises FlagError."""
    if path is None:
        return []
    try:
        document = decode_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FlagError(f"-liveRunnerConfig {path} is refused ({error}): it takes a JSON file") from error
    runners = document.get("runners") if isinstance(document, dict) else None
    if not isinstance(runners, list) or not all(isinstance(one, dict) for one in runners):
        raise FlagError(f'-liveRunnerConfig {path} is refused: it takes {{"runners": [{{..}}]}}')
    return runners


def cold_key(key: bytes) -> bytes:
    """The key of the cold wallet that belongs to a hot one: the same after a restart."""
    return hashlib.sha256(b"cold wallet of " + key).digest()


def _exact(duration: float) -> Fraction:
    """The exact decimal of a duration in seconds."""
    return Fraction(repr(duration))
