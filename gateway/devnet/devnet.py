"""The whole devnet: signer, runner, orchestrators, apps, chain, ComfyStream servers, each its own process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from gateway.devnet.ai_models import write_ai_models
from gateway.devnet.app.config import APPS
from gateway.devnet.child_process import Child, Ready
from gateway.devnet.live_runners.dialect import DIALECTS
from gateway.devnet.live_runners.price import price_of, usd_per_hour
from gateway.devnet.settings import DevnetSettings
from gateway.money import text
from gateway.private_files import make_folder

log = structlog.get_logger("devnet")

EPHEMERAL = "127.0.0.1:0"
LIST_TIMEOUT = 5.0


class Devnet:
    """`start` starts all processes, `stop` ends them; keys and the effective aiModels.json are in `data_dir`.

    `log_flags` are the parts' logging flags. Start it on the main thread: the parts die with the thread
    that started them.
    """

    def __init__(self, settings: DevnetSettings, data_dir: Path, *, log_flags: Sequence[str] = ()) -> None:
        self._settings = settings
        self._folder = data_dir / "devnet"
        self._log_flags = log_flags
        self._runner = self._child("runner", self._runner_flags)
        self._signer = self._child("signer", self._signer_flags)
        self._chain = self._child("chain", self._chain_flags, restart=False) if settings.chain else None
        self._orchestrators = [
            self._child("orchestrator", self._orchestrator_flags(number), number)
            for number in range(settings.orchestrators)
        ]
        self._live_orchestrators = [
            self._child("live-orchestrator", self._live_orchestrator_flags(number), number)
            for number in range(settings.runners)
        ]
        self._apps = [
            self._child("app", self._app_flags(number), number) for number in range(settings.runners)
        ]
        self._comfystreams = [
            self._child("comfystream", self._comfystream_flags, number)
            for number in range(settings.comfystreams)
        ]

    async def start(self) -> dict[str, Any]:
        """Start everything; returns `description()`.

        Raises OSError with a sentence where a part does not start; then no process is left.
        """
        try:
            make_folder(self._folder)
            first = [self._runner, self._signer, *self._comfystreams]
            await _start_all(*first, *([] if self._chain is None else [self._chain]))
            write_ai_models(self._settings.ai_models, self._ai_models, self._runner.ready["runner"])
            await _start_all(*self._orchestrators, *self._live_orchestrators)
            await _start_all(*self._apps)
            await self._tell_signer()
            await self._tell_chain()
        except BaseException:
            await self.stop()
            raise
        log.info(
            "devnet ready",
            orchestrators=len(self._orchestrators),
            runners=len(self._apps),
            signer=self._signer.ready["signer"],
        )
        return self.description()

    async def stop(self) -> None:
        """End all processes at once, within a few seconds. Idempotent."""
        await asyncio.gather(*(child.stop() for child in self._children()))

    def description(self) -> dict[str, Any]:
        """URLs, addresses and current process ids of all parts."""
        chain = {} if self._chain is None else {"chain": {**self._chain.ready, "pid": self._chain.pid}}
        return {
            **chain,
            "signer": self._signer.ready["signer"],
            "signer_pid": self._signer.pid,
            "signer_audit_url": self._signer.ready["audit_url"],
            "signer_address": self._signer.ready["address"],
            "runner": self._runner.ready["runner"],
            "runner_pid": self._runner.pid,
            "orchestrators": [
                {
                    key: child.ready[key]
                    for key in ("addr", "url", "address", "recipient", "price_wei_per_second", "audit_url")
                }
                | {"pid": child.pid, "hostile": hostile}
                for child, hostile in zip(self._orchestrators, self._settings.hostile, strict=True)
            ],
            "runners": [
                {
                    "url": orchestrator.ready["url"],
                    "app": APPS[self._settings.app_start],
                    "dialect": self._settings.dialect,
                    "address": orchestrator.ready["address"],
                    "price_wei_per_second": self._runner_price(number),
                    "pid": orchestrator.pid,
                    "app_pid": app.pid,
                    "app_url": app.ready["url"],
                    "audit_url": orchestrator.ready["audit_url"],
                    "hostile": self._settings.hostile_runners[number],
                }
                for number, (orchestrator, app) in enumerate(
                    zip(self._live_orchestrators, self._apps, strict=True)
                )
            ],
            "comfystreams": [{"url": child.ready["url"], "pid": child.pid} for child in self._comfystreams],
        }

    @property
    def _ai_models(self) -> Path:
        return self._folder / "aiModels.json"

    def _children(self) -> list[Child]:
        chain = [] if self._chain is None else [self._chain]
        live = [*self._apps, *self._live_orchestrators]
        return [*self._orchestrators, *live, *self._comfystreams, self._runner, self._signer, *chain]

    def _child(
        self,
        part: str,
        flags: Callable[[Ready | None], Mapping[str, object]],
        number: int | None = None,
        *,
        restart: bool = True,
    ) -> Child:
        def command(before: Ready | None) -> list[str]:
            arguments = [f"-{name}={value}" for name, value in flags(before).items()]
            return [sys.executable, "-m", "gateway.devnet", part, *arguments, *self._log_flags]

        name = part if number is None else f"{part}-{number}"
        return Child(name, command, restart=restart and self._settings.restart)

    def _runner_flags(self, before: Ready | None) -> Mapping[str, object]:
        return {
            "addr": EPHEMERAL if before is None else urlsplit(before["runner"]).netloc,
            "effect": self._settings.effect,
        }

    def _comfystream_flags(self, before: Ready | None) -> Mapping[str, object]:
        return {
            "addr": EPHEMERAL if before is None else urlsplit(before["url"]).netloc,
            "effect": self._settings.effect,
            "comfyStreamWarmUp": _seconds(self._settings.comfystream_warm_up),
        }

    def _signer_flags(self, before: Ready | None) -> Mapping[str, object]:
        flags: dict[str, object] = {
            "addr": EPHEMERAL if before is None else urlsplit(before["signer"]).netloc,
            "keyFile": self._folder / "signer.key",
            "preload": _seconds(self._settings.preload),
            "blockTime": _seconds(self._settings.block_time),
            "dialect": self._settings.signer_dialect,
        }
        if before is not None:
            flags["orchAddr"] = ",".join(child.ready["addr"] for child in self._orchestrators)
            flags["runnerUrls"] = ",".join(child.ready["url"] for child in self._live_orchestrators)
        return flags

    def _chain_flags(self, before: Ready | None) -> Mapping[str, object]:
        return {
            "addr": EPHEMERAL if before is None else urlsplit(before["url"]).netloc,
            "blockTime": _seconds(self._settings.block_time),
            "deposit": self._settings.deposit,
            "reserve": self._settings.reserve,
            "unlockPeriod": self._settings.unlock_period,
        }

    def _orchestrator_flags(self, number: int) -> Callable[[Ready | None], Mapping[str, object]]:
        settings = self._settings

        def flags(before: Ready | None) -> Mapping[str, object]:
            return {
                "addr": EPHEMERAL if before is None else before["addr"],
                "keyFile": self._folder / f"orchestrator-{number}.key",
                "aiModels": self._ai_models,
                "price": text(settings.prices[number]),
                "ticketSeconds": settings.ticket_seconds,
                "debitInterval": _seconds(settings.debit_interval),
                "debitRate": settings.debit_rate,
                "capacity": settings.capacity,
                "blockTime": _seconds(settings.block_time),
                "tokenLife": _seconds(settings.token_life),
                "faceValueMultiple": settings.face_value_multiple,
                "release": settings.release,
                "autoAdjustPrice": str(settings.auto_adjust_price).lower(),
                "hostile": settings.hostile[number],
                "hotCold": str(settings.hot_cold).lower(),
                **self._on_chain(),
            }

        return flags

    def _live_orchestrator_flags(self, number: int) -> Callable[[Ready | None], Mapping[str, object]]:
        settings = self._settings

        def flags(before: Ready | None) -> Mapping[str, object]:
            known = {} if before is None else {"orchSecret": before["secret"]}
            return {
                "addr": EPHEMERAL if before is None else urlsplit(before["url"]).netloc,
                "keyFile": self._folder / f"live-orchestrator-{number}.key",
                "dialect": settings.dialect,
                "ticketSeconds": settings.ticket_seconds,
                "debitRate": settings.debit_rate,
                "blockTime": _seconds(settings.block_time),
                "tokenLife": _seconds(settings.token_life),
                "faceValueMultiple": settings.face_value_multiple,
                "hostile": settings.hostile_runners[number],
                **known,
            }

        return flags

    def _app_flags(self, number: int) -> Callable[[Ready | None], Mapping[str, object]]:
        settings = self._settings

        def flags(before: Ready | None) -> Mapping[str, object]:
            orchestrator = self._live_orchestrators[number].ready
            return {
                "addr": EPHEMERAL if before is None else urlsplit(before["url"]).netloc,
                "orchAddr": orchestrator["url"],
                "orchSecret": orchestrator["secret"],
                "price": text(settings.runner_prices[number]),
                "runnerUnit": settings.runner_unit,
                "capacity": settings.capacity,
                "appStart": settings.app_start,
                "appWarmUp": _seconds(settings.app_warm_up),
                "appText": str(settings.app_text).lower(),
                "hostile": settings.hostile_runners[number],
            }

        return flags

    def _runner_price(self, number: int) -> str:
        """The price as it is sold: whole wei for each unit."""
        settings = self._settings
        usd = Fraction(usd_per_hour(settings.runner_prices[number]))
        return text(price_of(usd, settings.runner_unit, DIALECTS[settings.dialect]).per_second)

    def _on_chain(self) -> Mapping[str, object]:
        if self._chain is None:
            return {}
        return {"ethUrl": self._chain.ready["url"], "ethController": self._chain.ready["controller"]}

    async def _tell_signer(self) -> None:
        """Give the signer's discovery the orchestrators, which start after it."""
        listed = [
            *({"address": child.ready["addr"]} for child in self._orchestrators),
            *({"address": child.ready["url"], "runners": True} for child in self._live_orchestrators),
        ]
        await _put("signer", f"{self._signer.ready['signer']}/devnet/orchestrators", listed)

    async def _tell_chain(self) -> None:
        """Have the chain register the orchestrators and fund the signer."""
        if self._chain is None:
            return
        participants = {
            "sender": self._signer.ready["address"],
            "orchestrators": [
                {
                    "address": child.ready["recipient"],
                    "redeemer": child.ready["address"],
                    "uri": f"https://{child.ready['addr']}",
                }
                for child in self._orchestrators
            ],
        }
        await _put("chain", f"{self._chain.ready['url']}/devnet/participants", participants)


async def _put(part: str, url: str, body: object) -> None:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIST_TIMEOUT)) as http,
            http.put(url, json=body, raise_for_status=True),
        ):
            pass
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OSError(f"the {part} did not accept the list of orchestrators: {error}") from error


async def _start_all(*children: Child) -> None:
    """Start them at once; when all have started or failed, raises the first failure."""
    outcomes = await asyncio.gather(*(child.start() for child in children), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def _seconds(value: float) -> str:
    """A duration in the form that flags take."""
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"
