"""docs/apps-on-runners.md: its profile is a good one, and its table has every key."""

from __future__ import annotations

import dataclasses
import re

from gateway.runner.profile import AppProfile, Handshake, Pause
from tests.docs.documents import ROOT

TEXT = (ROOT / "docs" / "apps-on-runners.md").read_text()


def test_the_profile_that_it_shows_is_a_good_one() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    profile = AppProfile.parse(shown, "docs")
    assert profile.start_body({"prompt": "a cat", "width": 3}) == {"style": "pencil", "prompt": "a cat"}


def test_its_table_has_every_key_of_a_profile() -> None:
    table = TEXT[TEXT.index("| section |") :]
    sections = AppProfile.parse("app = 'x'\n[start]\npath = '/x'", "docs")
    kinds = {
        name: getattr(sections, name) for name in ("start", "channels", "update", "params", "media", "limits")
    }
    for name, kind in (kinds | {"handshake": Handshake, "pause": Pause}).items():
        assert f"`{name}`" in table
        for key in dataclasses.fields(kind):
            assert f"`{key.name}`" in table, key.name
