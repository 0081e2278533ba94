from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes
from gateway.allocator import LARGE, keep_large_blocks_apart

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
{set}
del_me = bytearray(16 * LARGE)
del del_me
before = mallinfo().hblks
kept = bytearray(2 * LARGE)
print(mallinfo().hblks - before)
"""


def mapped_blocks(first: str) -> int:
    """How many mappings a large block makes after a larger one was freed."""
    program = PROGRAM.format(set=first)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    return int(run.stdout)


def test_a_large_block_has_a_mapping_of_its_own_even_after_a_larger_one_was_freed() -> None:
    assert mapped_blocks("") == 0, "glibc as it comes: then there is nothing to set"
    assert mapped_blocks("keep_large_blocks_apart()") == 1
