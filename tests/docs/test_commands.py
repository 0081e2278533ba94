"""Every command in the documents is run, or marked with the reason why not.

`<!-- not run: reason -->` above a block marks it. Those that start a gateway or ask one are run by
`tests/e2e/test_docs_commands.py`, all others here.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.docs.documents import BLOCKS, COMMANDS, ROOT, Block

ALONE = [block for block in BLOCKS if block.is_run and not (block.starts_a_gateway or block.asks_a_gateway)]


def test_blocks_of_commands_are_found() -> None:
    assert any(block.starts_a_gateway for block in BLOCKS)
    assert any(block.asks_a_gateway for block in BLOCKS)
    assert ALONE


def test_every_block_has_a_language_that_is_known() -> None:
    others = {block.language for block in BLOCKS} - set(COMMANDS)
    assert others <= {"text", "html", "python", "toml"}, "a block of commands is sh or console"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.not_run], ids=str)
def test_only_commands_are_marked_as_not_run(block: Block) -> None:
    assert block.language in COMMANDS


@pytest.mark.parametrize("block", ALONE, ids=str)
def test_a_command_that_needs_no_gateway_runs(block: Block, tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run(["bash", "-e", "-c", block.commands], cwd=ROOT, env=environment, check=True, timeout=60)
