"""The `doctor` command: builds the parts that a stream needs, beside a gateway that runs, and asks each."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.build import (
    Build,
    CannotStart,
    JobKind,
    begin,
    job_sources,
    open_kinds,
    settings_on_devnet,
    start_devnet,
)
from gateway.candidates.verdict import Verdict
from gateway.doctor import machine
from gateway.doctor.candidates import OperatorTerms, of_orchestrators
from gateway.doctor.certificates import verified
from gateway.doctor.finding import Finding, Level, as_json, as_text, would_serve
from gateway.doctor.money import funds, ledger_findings, no_signer, signer_findings
from gateway.doctor.paths import media_paths
from gateway.eth_rate import moving, wei_now
from gateway.flag_text import help_text
from gateway.flags import BOOLEAN, POSITIVE_DURATION, Flag, FlagError, HelpRequested
from gateway.settings import GATEWAY_FLAGS, Settings, read_flags, settings_from
from gateway.telemetry import log
from gateway.webrtc.config import WebRtcConfig

PROGRAM = "livepeer-gateway doctor"
DOCTOR_FLAGS = (
    Flag("json", BOOLEAN, "false", "Print one JSON object instead of a table"),
    Flag("wait", POSITIVE_DURATION, "10s", "Wait this long for answers of orchestrators"),
)
USAGE = (
    f"usage: {PROGRAM} [flags of the gateway] [-json] [-wait 10s]\n\n"
    "Checks what the gateway would need with these flags; exit status 0 where a publisher would be served."
)
POLL = 0.05


def main(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Run the command. Returns the exit status: 1 where no publisher would be served, 2 for bad usage."""
    try:
        parsed = read_flags(argv, environ, more=DOCTOR_FLAGS)
        settings = settings_from(parsed)
    except HelpRequested:
        print(help_text((*DOCTOR_FLAGS, *GATEWAY_FLAGS), usage=USAGE))  # noqa: T201
        return 0
    except FlagError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    log.configure(0, settings.log_format)  # the findings say it all
    if settings.devnet is not None:
        settings = replace(settings, log_level=0)
    try:
        findings = asyncio.run(examine(settings, wait=parsed["wait"]))
    finally:
        settings.remove_temporary_data()
    print(as_json(findings) if parsed["json"] else as_text(findings))  # noqa: T201
    return 0 if would_serve(findings) else 1


async def examine(settings: Settings, *, wait: float) -> list[Finding]:
    """Everything that was found, with nothing signed. Orchestrators have `wait` seconds to answer."""
    findings = [Finding("flags", Level.WARNING, sentence) for sentence in settings.warnings]
    findings += [machine.descriptors(), machine.disk(settings.data_dir)]
    findings.append(machine.listener("httpAddr", settings.http.http_addr))
    if settings.http.cli_addr is not None:
        findings.append(machine.listener("cliAddr", settings.http.cli_addr))
    port = await machine.media_port(settings.ice)
    findings += [] if port is None else [port]
    outside = settings.http.reached_from_outside
    findings += await media_paths(WebRtcConfig(ice=settings.ice), reached_from_outside=outside)
    of_ledger, trust = await ledger_findings(settings.ledger, settings.payments)
    findings += of_ledger
    if settings.cluster is not None:
        from gateway.doctor.cluster import cluster_findings  # imports nats-py, which takes a while

        findings += await cluster_findings(settings.cluster)
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="livepeer-doctor-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            devnet = await start_devnet(settings, stack)
            if devnet is not None:
                settings = settings_on_devnet(settings, devnet())
            # a ledger of its own: the real one belongs to the gateway that may be running
            aside = replace(settings, ledger=str(folder / "ledger.sqlite3"), cluster=None, data_dir=folder)
            build = replace(await begin(aside, stack), trust=trust)
        except CannotStart as error:
            return [*findings, no_signer(str(error))]
        findings += [finding async for finding in _ask(build, wait)]
    return findings


async def _ask(build: Build, wait: float) -> AsyncIterator[Finding]:
    """Signer, funds, and everybody who could take a stream."""
    async for finding in signer_findings(build):
        yield finding
    signer_url = build.settings.network.signer_url
    if signer_url is not None:
        clock = await machine.clock(build.signer_http, signer_url, name="the signer")
        if clock is not None:
            yield clock
    found = await funds(build)
    if found is not None:
        yield found
    kinds = await open_kinds(build)
    await _settled(kinds, wait)
    payments = build.settings.payments
    states = [kind.state() for kind in kinds]
    certificates = await verified(row["url"] for state in states for row in _rows(state))
    terms = OperatorTerms(wei_now(moving(payments.ceiling, build.rate)), payments.interval, certificates)
    for state in states:
        for finding in of_orchestrators(state, terms):
            yield finding
    reasons = job_sources(build, kinds).reasons_not_ready()
    if reasons:
        why = f"nobody could take a stream: {'; '.join(reasons)}"
        yield Finding("streams", Level.FAULT, why, "mend one of the above, or add another")
    else:
        yield Finding("streams", Level.OK, "somebody could take a stream")


async def _settled(kinds: Sequence[JobKind], wait: float) -> None:
    """Wait until all that are known have answered, or for so many seconds."""
    try:
        async with asyncio.timeout(wait):
            while not all(_has_answered(kind.state()) for kind in kinds):  # noqa: ASYNC110 (no part can say)
                await asyncio.sleep(POLL)
    except TimeoutError:
        return


def _has_answered(state: Mapping[str, Any]) -> bool:
    lists = (*state.get("sources", ()), *state.get("runner_sources", ()))
    read = all(one["age_s"] is not None or one["error"] is not None for one in lists)
    return read and all(row["verdict"] != Verdict.UNREACHABLE for row in _rows(state))


def _rows(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Everybody who could take a stream."""
    kinds = ("orchestrators", "runners", "comfystreams")
    return [row for kind in kinds for row in state.get(kind, ())]
