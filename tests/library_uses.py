"""Finds what gateway/ uses of libraries and is not public there, and what it overrides of theirs."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
LIBRARIES = ("aiohttp", "aioice", "aiortc", "asyncio", "grpclib", "h2", "pylibsrtp", "uvloop")
TO_IMPLEMENT = ("asyncio.protocols", "asyncio.transports", "aiohttp.abc", "aiortc.mediastreams")
"""Modules whose classes are there to be implemented: what they have is documented."""
PRIVATE = re.compile(r"_[a-z]\w*")


def sources() -> dict[str, str]:
    """The text of each file of gateway/ that was not generated."""
    files = [path for path in sorted((ROOT / "gateway").rglob("*.py")) if not path.name.endswith("_pb2.py")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in files}


def library_of(owner: type) -> str:
    return owner.__module__.partition(".")[0]


def library_bases(owner: type) -> list[type]:
    """The classes of libraries that a class is made of, without those that are there to be implemented."""
    bases = owner.__mro__[1:]
    return [base for base in bases if library_of(base) in LIBRARIES and base.__module__ not in TO_IMPLEMENT]


def derived(text: str, path: str) -> Iterator[tuple[type, list[type], ast.ClassDef]]:
    """A file's classes that are made of libraries' ones, with those."""
    imports = re.search(rf"^(?:from|import) (?:{'|'.join(LIBRARIES)})\b", text, re.MULTILINE)
    if imports is None and "webrtc.udp" not in text:
        return
    classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.bases]
    if not classes:
        return
    module: ModuleType = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for node in classes:
        owner = getattr(module, node.name)
        if bases := library_bases(owner):
            yield owner, bases, node


def overrides() -> set[tuple[type, str]]:
    """Each method of a library's class that a class of gateway/ has too, the devnet and `__init__` aside."""
    return {
        (owner, name)
        for path, text in sources().items()
        if not path.startswith("gateway/devnet/")
        for owner, bases, _ in derived(text, path)
        for name in vars(owner)
        if callable(vars(owner)[name]) or isinstance(vars(owner)[name], property)
        if any(name in vars(base) for base in bases) and name not in ("__init__", "__hash__", "__eq__")
    }


def private_names() -> dict[str, set[str]]:
    """By file: the private names of libraries that it uses."""
    found = {path: set(_of_others(text)) | set(_of_bases(text, path)) for path, text in sources().items()}
    return {path: names for path, names in found.items() if names}


def _of_others(text: str) -> Iterator[str]:
    """Private attributes of objects of other classes, given as code or as text; private modules."""
    tree = ast.parse(text)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            if not _is_self(node.value) and node.attr not in own:
                yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            if node.func.id in ("getattr", "hasattr", "setattr", "delattr"):
                yield from _private_text(node.args[1])
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call):
            if isinstance(node.value.func, ast.Name) and node.value.func.id == "vars":
                yield from _private_text(node.slice)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            names = [*(node.module or "").split("."), *(name.name for name in node.names)]
            yield from (name for name in names if PRIVATE.fullmatch(name))


def _of_bases(text: str, path: str) -> Iterator[str]:
    """Private attributes of `self` that a library's class has of which the file's class is made."""
    for _, bases, node in derived(text, path):
        theirs = {name for base in bases for name in _attributes(base)}
        for one in ast.walk(node):
            if isinstance(one, ast.Attribute) and _is_self(one.value) and one.attr in theirs:
                yield one.attr


@cache
def _attributes(owner: type) -> frozenset[str]:
    """The private attributes of a library's class, and of its objects."""
    try:
        text = inspect.getsource(owner)
    except (TypeError, OSError):  # it is compiled
        text = ""
    return frozenset(re.findall(r"self\.(_[a-z]\w*)", text)) | set(filter(PRIVATE.fullmatch, vars(owner)))


def _is_self(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _private_text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and PRIVATE.fullmatch(node.value):
        yield node.value


@cache
def names_read_in(library: str) -> frozenset[str]:
    """Every attribute that a library's own code reads."""
    (folder,) = importlib.import_module(library).__path__
    return frozenset(
        node.attr
        for path in Path(folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    )
