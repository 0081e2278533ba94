"""One thing that is fuzzed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """`check` reads an input of at most `limit` bytes, and raises only where there is a fault.

    `seeds` are inputs beside those in the corpus.
    """

    name: str
    check: Callable[[bytes], None]
    limit: int
    seeds: Sequence[bytes] = ()
    words: Sequence[bytes] = ()
    corpora: Path = CORPUS
    """Where each target has a folder of its own."""

    @property
    def folder(self) -> Path:
        return self.corpora / self.name

    def corpus(self) -> list[bytes]:
        """All inputs that others are made of; those in the folder were findings, or lead to new places."""
        files = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [*self.seeds, *(file.read_bytes() for file in files)]

    def keep(self, data: bytes) -> Path:
        """Add an input to the corpus."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / hashlib.sha256(data).hexdigest()[:12]
        path.write_bytes(data)
        return path
