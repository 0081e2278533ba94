"""Flags in the form of Go programs, from command line, environment and file.

`-name value`, `-name=value` and `--name ..` are the same; a boolean is `-name` or `-name=false`. Each flag
is also `LP_NAME` in the environment and a line `name value` in the file of `-config`. The command line goes
before the environment, the environment before the file, the file before the default. An empty variable counts
as not set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

VARIABLE_PREFIX = "LP_"


class FlagError(Exception):
    """Bad usage, as one sentence that names the flag, the value and what is accepted."""


class HelpRequested(Exception):
    """`-h` or `-help` was given."""


@dataclass(frozen=True)
class Kind:
    """A type of flags. `accepts` completes the sentence "it takes ..".

    `parse` makes a value of text, or raises ValueError.
    """

    name: str
    accepts: str
    parse: Callable[[str], Any]
    secret: bool = False
    """Whether a value may hold a password: errors do not repeat it."""


@dataclass(frozen=True)
class Flag:
    """One row of a flag table. `default` is text, parsed as if it were given; None: not set."""

    name: str
    kind: Kind
    default: str | None
    help: str
    shown_default: str = ""
    """The default in words, for the documents, where `default` does not say it."""

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper()


@dataclass
class Parsed:
    """Values by flag name, and the names of the flags that were given."""

    values: dict[str, Any] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


MAX_DURATION_CHARS = 100
MAX_DURATION = 2**63 // 10**9
"""The longest duration that Go has, in seconds: 292 years."""
_DURATION_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def parse_duration(value: str) -> float:
    """Seconds of a Go duration that is not negative: `5s`, `1m30s`, `500ms`, `1.5h`, `0`. Or ValueError."""
    if value == "0":
        return 0.0
    parts = list(_DURATION_PART.finditer(value[: MAX_DURATION_CHARS + 1]))
    if not parts or "".join(part.group() for part in parts) != value:
        raise ValueError(value)
    seconds = sum(Decimal(part[1]) * _DURATION_UNITS[part[2]] for part in parts)
    if seconds > MAX_DURATION:
        raise ValueError(value)
    return float(seconds)


def _parse_boolean(value: str) -> bool:
    # the words of Go's strconv.ParseBool
    if value in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if value in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError(value)


def _parse_number(value: str) -> Fraction:
    if not re.fullmatch(r"[0-9.]{1,40}(/[0-9]{1,40})?", value):
        raise ValueError(value)
    try:
        return Fraction(value)
    except ZeroDivisionError:
        raise ValueError(value) from None


def _parse_integer(value: str) -> int:
    if not re.fullmatch(r"[0-9]+", value):
        raise ValueError(value)
    return int(value)


def _parse_address(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(value)
    return host.strip("[]") or "0.0.0.0", int(port)


def _parse_url(value: str) -> str:
    url = value if "://" in value else f"https://{value}"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(value)
    _ = parts.port  # raises ValueError for an invalid port
    return url.rstrip("/")


def is_eth_address(text: str) -> bool:
    """Whether it is an Ethereum address, 0x and 40 hex digits; its checksum is not looked at."""
    return re.fullmatch(r"0x[0-9a-fA-F]{40}", text) is not None


def without_userinfo(url: str) -> str:
    """The URL as it may be shown: without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _parse_base_url(value: str) -> str:
    url = _parse_url(value)
    if urlsplit(url).query or urlsplit(url).fragment:
        raise ValueError(value)
    return url


def _parse_list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


TEXT = Kind("text", "any text", str)
PATH = Kind("path", "a path", lambda value: Path(value).expanduser())
BOOLEAN = Kind("boolean", "true or false", _parse_boolean)
NUMBER = Kind("number", "a number such as 1 or 0.6", _parse_number)
INTEGER = Kind("integer", "a whole number, 0 or more", _parse_integer)
DURATION = Kind("duration", "a duration such as 5s, 1m30s or 500ms", parse_duration)
ADDRESS = Kind("host:port", "host:port with a port from 0 to 65535", _parse_address)
URL = Kind("url", "an http or https URL", _parse_url)
BASE_URL = Kind("url", "an http or https URL without ? and #, since paths are added to it", _parse_base_url)
LIST = Kind("list", "a comma-separated list", _parse_list)


def within(kind: Kind, accepts: str, fits: Callable[[Any], bool]) -> Kind:
    """`kind`, restricted to the values for which `fits` is true."""

    def parse(text: str) -> Any:
        value = kind.parse(text)
        if not fits(value):
            raise ValueError(text)
        return value

    return replace(kind, accepts=accepts, parse=parse)


POSITIVE_DURATION = within(DURATION, "a duration above 0, such as 5s or 500ms", lambda seconds: seconds > 0)
POSITIVE_INTEGER = within(INTEGER, "a whole number, 1 or more", lambda number: number > 0)
POSITIVE_NUMBER = within(NUMBER, "a number above 0, such as 1 or 0.6", lambda number: number > 0)


def choice(*names: str) -> Kind:
    """A kind that takes one of these names."""

    def parse(value: str) -> str:
        if value not in names:
            raise ValueError(value)
        return value

    return Kind("|".join(names), "one of " + ", ".join(names), parse)


def parse_flags(
    flags: Sequence[Flag], argv: Sequence[str], environ: Mapping[str, str], *, program: str
) -> Parsed:
    """Read every flag of the table from `argv`, `environ`, the file of `-config`, or its default.

    Raises FlagError for bad usage and HelpRequested for `-h`; `program` is the program's name, for errors.
    """
    table = {flag.name: flag for flag in flags}
    command_line = dict(_arguments(table, argv, program))
    environment = {flag.name: environ[flag.variable] for flag in flags if environ.get(flag.variable)}
    sources = [("", command_line), ("from the environment", environment)]
    path = command_line.get("config") or environment.get("config")
    if path and "config" in table:
        sources.append((f"from {path}", _file(table, Path(path).expanduser())))
    parsed = Parsed()
    for flag in flags:
        for origin, source in sources:
            if flag.name in source:
                parsed.values[flag.name] = _value(flag, source[flag.name], origin)
                parsed.given.add(flag.name)
                break
        else:
            parsed.values[flag.name] = None if flag.default is None else flag.kind.parse(flag.default)
    return parsed


def unknown_variables(flags: Sequence[Flag], environ: Mapping[str, str], *, program: str) -> tuple[str, ...]:
    """A warning for each `LP_` variable that is not a flag: a typo, or another program's."""
    table = {flag.variable: flag for flag in flags}
    return tuple(
        f"{name} in the environment is not a flag of {program}{_suggestion(table, name)}"
        for name in sorted(environ)
        if name.upper().startswith(VARIABLE_PREFIX) and name not in table and environ[name]
    )


def _arguments(table: Mapping[str, Flag], argv: Sequence[str], program: str) -> Iterable[tuple[str, str]]:
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word in {"-", "--"}:
            raise FlagError(
                f"{word!r} is not a flag: {program} takes flags only, such as -name value (see -help)"
            )
        name, equals, value = word.lstrip("-").partition("=")
        if name in {"h", "help"}:
            raise HelpRequested
        flag = table.get(name)
        if flag is None:
            raise FlagError(f"-{name} is not a flag of {program}{_suggestion(table, name, '-')}")
        if not equals:
            if flag.kind is BOOLEAN:
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise FlagError(f"-{name} needs a value: it takes {flag.kind.accepts}")
        yield name, value


def _suggestion(table: Iterable[str], name: str, dash: str = "") -> str:
    import difflib

    lower = {known.lower(): known for known in table}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    return f": did you mean {dash}{lower[close[0]]}?" if close else ": -help lists the flags that it takes"


def _file(table: Mapping[str, Flag], path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FlagError(
            f"-config {path} cannot be read ({error}): it takes a text file of lines 'name value'"
        ) from error
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, _, value = text.partition(" ")
        name = name.lstrip("-")
        if name not in table or name == "config":
            raise FlagError(
                f"{name!r} in line {number} of {path} is not a flag{_suggestion(table, name, '-')}"
            )
        values[name] = value.strip() or ("true" if table[name].kind is BOOLEAN else "")
    return values


def _value(flag: Flag, text: str, origin: str) -> Any:
    try:
        return flag.kind.parse(text)
    except ValueError as error:
        said = str(error)
        secret = flag.kind.secret or "@" in text  # a URL may hold a password
        because = f" ({said})" if said and said != text and "invalid literal" not in said else ""
        because, shown = ("", "") if secret else (because, f" {text!r}")
        where = f" {origin}" if origin else ""
        raise FlagError(
            f"-{flag.name}{shown}{where} is refused{because}: it takes {flag.kind.accepts}"
        ) from error
