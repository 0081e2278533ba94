"""The fuzzers: their corpus is read without a fault, and they find what is planted."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.fuzz.bounds import MAX_GROWTH, MAX_SECONDS, Costly, measured
from benchmarks.fuzz.run import fuzz
from benchmarks.fuzz.target import Target
from benchmarks.fuzz.targets import TARGETS

MINUTES = 3


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_the_corpus_is_read_without_a_finding(target: Target) -> None:
    assert target.corpus()
    target.check(target.corpus()[0])
    for data in target.corpus():
        measured(target.check, data)


def slow(data: bytes) -> None:
    total = 0
    while data.count(b"x") > 20 and total < 5 * 10**6:
        total += 1


def broken(data: bytes) -> None:
    if b"\xff\xff" in data:
        raise IndexError("planted")


held: list[bytearray] = []


def greedy(data: bytes) -> None:
    if data.startswith(b"aa"):
        held.append(bytearray(b"x" * (MAX_GROWTH + 10**7)))


@pytest.mark.parametrize(
    ("check", "why", "size"), [(broken, "planted", 100), (greedy, "bytes leave|bytes take", 1000)]
)
def test_a_planted_fault_is_found_made_small_and_kept(
    check: Callable[[bytes], None], why: str, size: int, tmp_path: Path
) -> None:
    planted = Target(
        "planted", check, limit=1000, seeds=[b"abc" * 20], words=[b"\xff", b"a"], corpora=tmp_path
    )
    row = fuzz(planted, 20.0, 1)
    held.clear()
    assert re.search(why, row["finding"])
    kept = Path(row["input"])
    assert kept.parent == tmp_path / "planted"
    assert len(kept.read_bytes()) <= size
    assert planted.corpus()[-1] == kept.read_bytes()


def test_what_is_slow_is_a_finding() -> None:
    with pytest.raises(Costly, match=r"take \d+ ms"):
        measured(slow, b"x" * 30)
    assert measured(slow, b"x") < MAX_SECONDS


@pytest.mark.long
@pytest.mark.heavy
@pytest.mark.timeout(60 * MINUTES + 180)
@pytest.mark.asyncio
async def test_all_targets_together_find_nothing() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.fuzz", "-minutes", str(MINUTES)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60 * MINUTES + 150)
    rows = [json.loads(line) for line in said.decode().splitlines()]
    assert [row["finding"] for row in rows if row["finding"]] == []
    assert {row["target"] for row in rows} == {*TARGETS, "http"}
    assert process.returncode == 0
