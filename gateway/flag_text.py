"""Flag tables as text: what `-help` prints, and docs/flags.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.flags import BOOLEAN, VARIABLE_PREFIX, Flag

Groups = Mapping[str, Sequence[Flag]]
"""Flags by the title of the part that they belong to."""

MAX_HELP = 80
"""Characters of a flag's help: the rest of the story belongs into docs/."""

_INTRODUCTION = f"""# Flags

What each flag of `livepeer-gateway` takes, does and defaults to.

<!-- Written by `.venv/bin/python -m gateway.settings > docs/flags.md`, held to the code by a test. -->

`-name value`, `-name=value` and `--name value` are the same; a boolean is `-name` or `-name=false`. Durations
are Go's: `5s`, `1m30s`, `500ms`. Every flag is also the variable `{VARIABLE_PREFIX}NAME` of the environment
(`-maxStreams` is `{VARIABLE_PREFIX}MAXSTREAMS`) and a line `name value` of the file that `-config` names. The
command line beats the environment, the environment the file, the file the default. An unknown flag or a value
that is refused ends the program with exit status 2 and one sentence.

With `-devnet` the flags of the small network are taken too: `.venv/bin/livepeer-devnet -help` lists them."""


def help_text(flags: Sequence[Flag], *, usage: str) -> str:
    """What `-help` prints: the usage line, then each flag with its type, meaning and default."""
    lines = [usage, ""]
    for flag in flags:
        kind = "" if flag.kind is BOOLEAN else f" {flag.kind.name}"
        shown = flag.shown_default or flag.default
        default = f" (default {shown})" if shown not in {None, "", "false"} else ""
        lines += [f"  -{flag.name}{kind}", f"        {flag.help}{default}"]
    return "\n".join(lines)


def flags_document(groups: Groups) -> str:
    """The content of docs/flags.md, without the last line's end."""
    parts = [_INTRODUCTION]
    for title, flags in groups.items():
        parts.append(f"## {title}\n\n{flag_table(flags)}")
    return "\n\n".join(parts)


def flag_table(flags: Sequence[Flag]) -> str:
    """The flags as a table in Markdown."""
    rows = ["| flag | type | default | meaning |", "| --- | --- | --- | --- |"]
    for flag in flags:
        kind = flag.kind.name.replace("|", "\\|")
        default = flag.shown_default or (f"`{flag.default}`" if flag.default else "none")
        rows.append(f"| `-{flag.name}` | {kind} | {default} | {flag.help} |")
    return "\n".join(rows)
