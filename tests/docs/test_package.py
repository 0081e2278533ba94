"""The JavaScript package: each of its modules, with a type for all that it gives."""

from __future__ import annotations

import json
import re
import tomllib

from tests.docs.documents import ROOT

JS, PAGES = ROOT / "js", ROOT / "gateway" / "http" / "pages"
IMPORT = re.compile(r'from "\./([\w.]+)"')


def test_it_has_every_module_that_it_imports_and_no_other() -> None:
    needed, found = ["livepeer.js"], set()
    while needed:
        name = needed.pop()
        if name not in found:
            found.add(name)
            needed += IMPORT.findall((PAGES / name).read_text())
    assert {path.name for path in JS.glob("*.js")} == found
    assert all((JS / name).resolve() == PAGES / name for name in found)


def test_it_has_a_type_for_all_that_it_gives() -> None:
    given = re.findall(r"^export \{ (.+) \}", (JS / "livepeer.js").read_text(), re.MULTILINE)
    names = {name for line in given for name in line.split(", ")}
    typed = set(re.findall(r"^export (?:class|function) (\w+)", (JS / "livepeer.d.ts").read_text(), re.M))
    assert names == typed


def test_it_has_the_gateways_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert json.loads((JS / "package.json").read_text())["version"] == version
