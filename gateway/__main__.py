"""`livepeer-gateway`: reads the flags and runs the daemon, or a command."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from importlib.metadata import version

from gateway.devnet.child_process import die_with_parent
from gateway.devnet.description import VARIABLE
from gateway.flag_text import help_text
from gateway.flags import FlagError, HelpRequested, Parsed
from gateway.settings import GATEWAY_FLAGS, PROGRAM, Settings, read_flags, settings_from, wants_version

USAGE = f"""usage: {PROGRAM} [flags]
       {PROGRAM} doctor [flags]
       {PROGRAM} ledger [-help]
       {PROGRAM} publish SOURCE WHIP_URL [flags]
       {PROGRAM} play WHEP_URL [flags]
       {PROGRAM} smoke URL [flags]"""


def main() -> None:
    die_with_parent()
    sys.exit(_main(sys.argv[1:]))


def _main(argv: list[str]) -> int:
    if argv[:1] == ["ledger"]:
        from gateway.cli import ledger

        return ledger.main(argv[1:])
    if argv[:1] == ["doctor"]:
        from gateway.doctor import doctor

        return doctor.main(argv[1:])
    if argv[:1] in (["publish"], ["play"], ["smoke"]):
        from gateway.telemetry import log

        # av and aiortc take a second to import
        log.configure(0, "text")
        return int(importlib.import_module(f"gateway.clients.{argv[0]}").main(argv[1:]))
    parsed = Parsed()
    try:
        parsed = read_flags(argv, os.environ)
        if wants_version(parsed):
            print(f"{PROGRAM} {version('livepeer-live-gateway')}")  # noqa: T201
            return 0
        settings = settings_from(parsed)
        if _starts_many(settings):
            from gateway.devnet_cluster import check_flags

            check_flags(parsed)
    except HelpRequested:
        print(help_text(GATEWAY_FLAGS, usage=USAGE))  # noqa: T201
        return 0
    except FlagError as error:
        for sentence in (*parsed.warnings, str(error)):
            print(f"{PROGRAM}: {sentence}", file=sys.stderr)  # noqa: T201
        return 2
    # imported here: they take a second, and a wrong flag is answered before
    gc.disable()  # looking for garbage meanwhile would take a tenth more
    from gateway.aio import event_loop
    from gateway.telemetry import log

    if _starts_many(settings):
        from gateway.devnet_cluster import run_cluster

        running = run_cluster(settings, argv)
    else:
        from gateway.daemon import run_daemon

        running = run_daemon(settings)
    # keep the imports' objects out of later collections, which would block the loop for 0.1 s
    gc.collect()
    gc.freeze()
    gc.enable()
    log.configure(settings.log_level, settings.log_format)
    return event_loop.run(running)


def _starts_many(settings: Settings) -> bool:
    """Whether this process is to start gateways, and to be none."""
    devnet = settings.devnet
    return devnet is not None and devnet.gateways > 1 and not os.environ.get(VARIABLE)


if __name__ == "__main__":
    main()
