"""Tells in which line of a TOML file a key is: tomllib gives values only."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[{1,2}\s*([^\[\]#]+?)\s*\]{1,2}")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=")
LONGEST_NAME = 200
"""Characters of a line that are looked at."""


def line_of(text: str, section: str, key: str = "") -> int:
    """The line of a key, else of its section; 0 where neither is found. An empty `section` is the top.

    It looks at names and headers, one a line: what a string of many lines holds may be taken for them.
    """
    header: list[str] = []
    section_at = 0
    for number, line in enumerate(text.splitlines(), 1):
        start = line[:LONGEST_NAME]
        if found := _HEADER.match(start):
            header = place = _names(found[1])
        elif found := _KEY.match(start):
            place = header + _names(found[1])
        else:
            continue
        if key and place[:2] == ([section, key] if section else [key]):
            return number
        if section and not section_at and place[:1] == [section]:
            section_at = number
    return section_at


def _names(dotted: str) -> list[str]:
    return [name.strip(" \t\"'") for name in dotted.split(".") if name]
