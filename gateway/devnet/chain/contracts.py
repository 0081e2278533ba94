"""The devnet's contracts, compiled from the Vyper files in this folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from gateway.chain.importing import contained


@dataclass(frozen=True, slots=True)
class Compiled:
    """A contract for Web3: the JSON ABI and the hex bytecode that deploys it."""

    abi: list[dict[str, Any]]
    bytecode: str


@cache
def compiled(name: str) -> Compiled:
    """The contract of this name; compiling takes up to a second, once per process."""
    source = (resources.files(__package__) / "contracts" / f"{name}.vy").read_text(encoding="utf-8")
    with contained():
        from vyper import compile_code

        out = compile_code(source, output_formats=["abi", "bytecode"])
    return Compiled(abi=out["abi"], bytecode=out["bytecode"])
