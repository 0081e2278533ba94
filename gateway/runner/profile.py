"""App profiles: how an app on a live runner is started, updated and read, in a TOML file each.

docs/apps-on-runners.md describes the form.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gateway.runner.app_errors import Errors
from gateway.runner.toml_lines import line_of

MAX_FILE = 64 * 1024
MAX_PROFILES = 200
DEFAULT_FIRST_PICTURE = 120.0
FIRST_PICTURE_AFTER = 30.0
"""Seconds from the longest start to the first picture, where a profile does not say."""
LONGEST = 3600
"""Limit of a time in seconds."""
PAUSE_WORDS = ("pause", "resume")
"""A stream's parameters that halt an app: `pause` true or false, `resume` true."""
ACCEPTED = {
    "str": "text, and a path must begin with /",
    "bool": "true or false",
    "float": f"seconds above 0, at most {LONGEST}",
    "tuple[str, ...]": "a list of names",
    "Mapping[str, str]": "a table of names",
    "Mapping[str, Any]": "a table",
}


class BadProfile(ValueError):
    """A profile cannot be used; the text names the file, the line, what is wrong and what is accepted."""


@dataclass(frozen=True, slots=True)
class Start:
    """The call that starts the app in a session."""

    path: str
    body: Mapping[str, Any] = field(default_factory=dict)
    """What is sent where the stream's parameters do not say otherwise."""
    timeout: float = 30.0
    """Seconds until the app has answered, with all tries while it is not ready."""


@dataclass(frozen=True, slots=True)
class Channels:
    """Where the start's answer has the URLs of the app's channels: names of fields, `a.b` for nested ones."""

    input: str = "in"
    output: str = "out"
    text: str = "text"
    """May be missing in an answer."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The messages that start an app over a control channel, after its call; no section: the call is all."""

    control: str = "control_url"
    events: str = "events_url"
    """Where the call's answer has the URLs of both channels."""
    load_path: str = ""
    """The app's route that loads its models first; empty: none."""
    load: Mapping[str, Any] = field(default_factory=dict)
    """What is sent there, where the stream's parameters do not say otherwise."""
    start: Mapping[str, Any] = field(default_factory=dict)
    """The parameters of the stream's start, where its own do not say otherwise."""
    ping: float = 10.0
    """Seconds between two signs of life."""


@dataclass(frozen=True, slots=True)
class Update:
    """The call that changes parameters while the app runs; no path: the app takes none."""

    path: str = ""
    whole: bool = False
    """Whether all parameters are sent, not only those that change."""


@dataclass(frozen=True, slots=True)
class Pause:
    """How the app is halted and goes on in its session; no section: it cannot be halted."""

    param: str = ""
    """The parameter of its updates that is true while it is halted."""
    path: str = ""
    resume_path: str = ""
    """Its routes for both, where it has no such parameter."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The call that ends the app's work before its session ends; no path: it ends with the session."""

    path: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """The route of the app that gives its texts; no path: they come over a channel, if at all."""

    path: str = ""


@dataclass(frozen=True, slots=True)
class Params:
    """Which of a stream's parameters the app takes."""

    names: tuple[str, ...] = ()
    """Empty: all of them."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """The app's name for a parameter of the stream."""


@dataclass(frozen=True, slots=True)
class Media:
    """What the app takes and gives."""

    audio: bool = False
    """Whether it takes sound."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds."""

    first_picture: float = DEFAULT_FIRST_PICTURE
    """From the reserve to the first picture, where the orchestrator has delivered before; else 60 at most."""

    @classmethod
    def after(cls, start: Start) -> Limits:
        """Those of a profile without any: time for a picture after the longest start."""
        return cls(max(DEFAULT_FIRST_PICTURE, start.timeout + FIRST_PICTURE_AFTER))


@dataclass(frozen=True, slots=True)
class AppProfile:
    """One app."""

    app: str
    start: Start
    handshake: Handshake | None = None
    channels: Channels = field(default_factory=Channels)
    update: Update = field(default_factory=Update)
    pause: Pause | None = None
    stop: Stop = field(default_factory=Stop)
    text: Text = field(default_factory=Text)
    errors: Errors = field(default_factory=Errors)
    params: Params = field(default_factory=Params)
    media: Media = field(default_factory=Media)
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def parse(cls, text: str, source: str) -> AppProfile:
        """A profile from the text of `source`, a file's name. Raises BadProfile."""
        try:
            given = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise BadProfile(f"{source}: not TOML: {error}") from error
        try:
            return cls._of(given)
        except _BadPlace as error:
            line = line_of(text, error.section, error.key)
            raise BadProfile(f"{source}:{line}: {error}" if line else f"{source}: {error}") from None

    @classmethod
    def _of(cls, given: dict[str, Any]) -> AppProfile:
        """Raises _BadPlace."""
        app = given.pop("app", None)
        if not isinstance(app, str) or not app or not app.isprintable() or len(app) > 200:
            raise _BadPlace("app must be the app's name, such as livepeer-example/echo", "", "app")
        sections = {
            "start": Start,
            "handshake": Handshake,
            "channels": Channels,
            "update": Update,
            "pause": Pause,
            "stop": Stop,
            "text": Text,
            "errors": Errors,
            "params": Params,
            "media": Media,
            "limits": Limits,
        }
        made: dict[str, Any] = {}
        for name, value in given.items():
            if name not in sections:
                accepted = ", ".join(sections)
                raise _BadPlace(f"{name} is no section of a profile; accepted are {accepted}", name)
            made[name] = _section(sections[name], value, name)
        if "start" not in made:
            raise _BadPlace("a [start] section with a path is required")
        pause: Pause | None = made.get("pause")
        if pause is not None and not (pause.param or (pause.path and pause.resume_path)):
            raise _BadPlace("[pause] needs a param, or path and resume_path", "pause")
        if "first_picture" not in given.get("limits", {}):
            made["limits"] = Limits.after(made["start"])
        return cls(app=app, **made)

    def start_body(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the app is called with for a stream's parameters; with a handshake they come later."""
        if self.handshake is not None:
            return dict(self.start.body)
        return self.whole(params)

    def whole(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All of the app's parameters for a stream's."""
        given = self.start.body if self.handshake is None else self.handshake.start
        return {**given, **self.translate(params)}

    def translate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The app's parameters for a stream's. Those that halt it are sent apart."""
        apart = () if self.pause is None else PAUSE_WORDS
        named = {
            self.params.rename.get(name, name): value for name, value in params.items() if name not in apart
        }
        names = self.params.names or tuple(named)
        return {name: value for name, value in named.items() if name in names}


def pause_in(params: Mapping[str, Any]) -> bool | None:
    """Whether a stream's parameters, the newest last, ask for a pause; None where they say nothing of it."""
    wanted = None
    for name, value in params.items():
        if name in PAUSE_WORDS and isinstance(value, bool) and (value or name == "pause"):
            wanted = value and name == "pause"
    return wanted


class _BadPlace(ValueError):
    """What is wrong with a section or one of its keys."""

    def __init__(self, wrong: str, section: str = "", key: str = "") -> None:
        super().__init__(wrong)
        self.section = section
        self.key = key


def _section(kind: type[Any], given: Any, name: str) -> Any:
    if not isinstance(given, dict):
        raise _BadPlace(f"[{name}] must be a section", name)
    known = {one.name: one for one in fields(kind)}
    made: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise _BadPlace(f"[{name}] has no {key}; accepted are {', '.join(known)}", name, key)
        made[key] = _value(str(known[key].type), value, name, key)
    if kind is Start and "path" not in made:
        raise _BadPlace(f"[{name}] needs a path", name)
    return kind(**made)


def _value(kind: str, value: Any, section: str, key: str) -> Any:
    match kind, value:
        case "str", str() if not key.endswith("path") or re.fullmatch(r"/[!-~]*", value):
            return value
        case "bool", bool():
            return value
        case "float", int() | float() if not isinstance(value, bool) and 0 < value <= LONGEST:
            return float(value)
        case "tuple[str, ...]", list() if all(isinstance(one, str) for one in value):
            return tuple(value)
        case "Mapping[str, str]", dict() if all(isinstance(one, str) for one in value.values()):
            return value
        case "Mapping[str, Any]", dict():
            return value
    raise _BadPlace(f"[{section}] {key} must be {ACCEPTED[kind]}", section, key)


def load_profiles(folders: Iterable[Path]) -> dict[str, AppProfile]:
    """All profiles in these folders, by app; a later folder's comes before an earlier one's.

    Raises BadProfile.
    """
    found: dict[str, AppProfile] = {}
    for folder in folders:
        if not folder.is_dir():
            raise BadProfile(f"{folder} is not a folder")
        for path in sorted(folder.glob("*.toml"))[:MAX_PROFILES]:
            try:
                with path.open("rb") as file:
                    content = file.read(MAX_FILE + 1)
                text = content.decode()
            except (OSError, UnicodeDecodeError) as error:
                raise BadProfile(f"{path}: cannot be read: {error}") from error
            if len(content) > MAX_FILE:
                raise BadProfile(f"{path}: it is over the limit of {MAX_FILE} bytes")
            profile = AppProfile.parse(text, str(path))
            found[profile.app] = profile
    return found
