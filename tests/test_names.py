"""Names: tests use what is public and patch nothing of the project's own, and classes share no name.

Ruff's SLF001 finds private attributes; these are the two ways round it.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN = ("gateway", "signer_client", "harness", "benchmarks", "tests")
FILES = [path for top in ("tests", "benchmarks", "harness") for path in sorted((ROOT / top).rglob("*.py"))]


def own_imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The project's modules and names that a file imports: what each is called there, and its own name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OWN:
            yield from ((name.asname or name.name, name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] in OWN:
                    yield name.asname or name.name.split(".")[0], name.name


def private_imports(source: str) -> list[str]:
    return [name for _, name in own_imports(ast.parse(source)) if name.startswith("_") and name != "__main__"]


def patches(source: str) -> list[str]:
    """What a file patches of the project's own: objects that it imports, and paths to them as text."""
    tree = ast.parse(source)
    imported = {name for name, _ in own_imports(tree)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            of = ast.unparse(node.func.value)
            what = node.args[0]
            named = what.value if isinstance(what, ast.Constant) else ast.unparse(what)
            if of == "monkeypatch" and node.func.attr in ("setattr", "delattr", "setitem", "delitem"):
                first = str(named).split(".")[0]
                if first in imported or (isinstance(what, ast.Constant) and first in OWN):
                    found.append(str(named))
    return found


@pytest.mark.parametrize("find", [private_imports, patches])
def test_no_file_has_any(find: Callable[[str], list[str]]) -> None:
    found = {str(path.relative_to(ROOT)): find(path.read_text()) for path in FILES}
    assert {path: names for path, names in found.items() if names} == {}


def test_both_ways_are_seen() -> None:
    assert private_imports("from gateway.x import _y, z") == ["_y"]
    assert patches("from gateway import x\nmonkeypatch.setattr(x.y, 'Z', 2)") == ["x.y"]
    assert patches("monkeypatch.setattr('gateway.x.Z', 2)") == ["gateway.x.Z"]
    assert patches("import time\nmonkeypatch.setattr(time, 'sleep', 2)") == []


def test_a_class_of_the_gateway_has_its_name_for_itself() -> None:
    """But for what is private to a module, and for the Timing of each kind of job."""
    defined = Counter(
        node.name
        for path in sorted((ROOT / "gateway").rglob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, times in defined.items() if times > 1} <= {"Timing"}
