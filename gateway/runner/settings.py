"""The flags that concern live runners, and the settings that come out of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.flags import LIST, PATH, URL, Flag, FlagError, Kind, Parsed
from gateway.runner.profile import AppProfile, BadProfile, load_profiles

SHIPPED_PROFILES = Path(__file__).parents[2] / "config" / "apps"


def _parse_apps(value: str) -> dict[str, str]:
    """`NAME=APP` or `APP`, comma-separated, as name to app. Raises ValueError."""
    apps: dict[str, str] = {}
    for one in LIST.parse(value):
        name, equals, app = one.partition("=")
        app = app if equals else name
        if not name or not app or not app.isprintable() or name in apps:
            raise ValueError(value)
        apps[name] = app
    return apps


def _parse_urls(value: str) -> tuple[str, ...]:
    return tuple(URL.parse(url) for url in LIST.parse(value))


APPS = Kind("[name=]app,..", "apps, or name=app to have an app serve the model of that name", _parse_apps)
URLS = Kind("url,..", "http or https URLs, comma-separated", _parse_urls)

RUNNER_FLAGS: tuple[Flag, ...] = (
    Flag(
        "app",
        APPS,
        None,
        "Use live runners with these apps; NAME=APP: for streams of the model NAME",
        "no live runners",
    ),
    Flag("appProfiles", PATH, None, "Read app profiles of your own from this folder too"),
    Flag("discoveryUrl", URLS, None, "Read live runners from these URLs too, comma-separated"),
)


@dataclass(frozen=True)
class RunnerSettings:
    """Which apps are used, and how."""

    apps: Mapping[str, str] = field(default_factory=dict)
    """The app for each name that a publisher may give."""
    profiles: Mapping[str, AppProfile] = field(default_factory=dict)
    """One for each of those apps."""
    discovery_urls: tuple[str, ...] = ()
    orchestrators: tuple[str, ...] = ()
    """URLs of orchestrators that have live runners only, beside those of `-orchAddr`."""

    @property
    def default_name(self) -> str | None:
        """What a stream gets that names no pipeline; None without apps."""
        return next(iter(self.apps), None)

    @classmethod
    def for_apps(cls, apps: Mapping[str, str]) -> RunnerSettings:
        """Apps that the shipped profiles describe."""
        known = load_profiles([SHIPPED_PROFILES])
        return cls(apps, {app: known[app] for app in apps.values()})

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> RunnerSettings:
        """Raises FlagError for an app without a profile, or a bad profile."""
        apps: dict[str, str] = parsed["app"] or {}
        own: Path | None = parsed["appProfiles"]
        try:
            known = load_profiles([SHIPPED_PROFILES, *([own] if own else [])]) if apps or own else {}
        except BadProfile as error:
            raise FlagError(f"-appProfiles: {error}") from error
        for app in apps.values():
            if app not in known:
                raise FlagError(
                    f"-app {app}: no profile describes it; there are {', '.join(sorted(known))}, "
                    "and -appProfiles adds others (docs/apps-on-runners.md)"
                )
        if parsed["discoveryUrl"] and not apps:
            raise FlagError("-discoveryUrl needs -app: it lists live runners")
        return cls(apps, {app: known[app] for app in apps.values()}, parsed["discoveryUrl"] or ())
