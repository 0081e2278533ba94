"""The documents as data: their paths, links, inline code and fenced blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = ("sh", "console")
"""Languages of fenced blocks that hold commands; of a `console` block those are the lines behind `$ `."""

_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
_FENCE = re.compile(r"^```(\w*)$")
_GATEWAY = re.compile(
    r"(scripts/run|\.venv/bin/livepeer-gateway)\b(?! (ledger|doctor|publish|play|smoke|-version|-help))"
)


@dataclass(frozen=True)
class Block:
    """A fenced block; `not_run` is the reason in a `<!-- not run: .. -->` before it, empty without one."""

    document: str
    line: int
    language: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> str:
        if self.language == "console":
            return "\n".join(line[2:] for line in self.text.splitlines() if line.startswith("$ "))
        return self.text

    @property
    def is_run(self) -> bool:
        return self.language in COMMANDS and not self.not_run

    @property
    def starts_a_gateway(self) -> bool:
        """Whether it is one command: a gateway in the foreground."""
        return _GATEWAY.match(self.text) is not None

    @property
    def asks_a_gateway(self) -> bool:
        """Whether it speaks to a gateway that runs, or reads its ledger."""
        return "http://127.0.0.1:9935/" in self.text or "livepeer-gateway ledger" in self.text


@dataclass(frozen=True)
class Document:
    """One Markdown file; `name` is its path from the root."""

    name: str

    @cached_property
    def text(self) -> str:
        return (ROOT / self.name).read_text()

    @cached_property
    def prose(self) -> str:
        """All of it but the fenced blocks."""
        return re.sub(r"^```\w*\n.*?^```$", "", self.text, flags=re.DOTALL | re.MULTILINE)

    @property
    def inline_code(self) -> list[str]:
        return re.findall(r"`([^`\n]+)`", self.prose)

    @property
    def links(self) -> list[str]:
        """Links to files of the project, each with its `#anchor`."""
        return [link for link in re.findall(r"\]\(([^)\s]+)\)", self.prose) if "://" not in link]

    @property
    def anchors(self) -> set[str]:
        """The headings as GitHub names them."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    @cached_property
    def blocks(self) -> list[Block]:
        found, lines, at = [], self.text.splitlines(), 0
        while at < len(lines):
            fence = _FENCE.match(lines[at])
            if fence is None:
                at += 1
                continue
            end = lines.index("```", at + 1)
            before = [line for line in lines[max(0, at - 2) : at] if line]
            marked = _NOT_RUN.fullmatch(before[-1]) if before else None
            text = "\n".join(lines[at + 1 : end])
            found.append(Block(self.name, at + 1, fence[1], text, marked[1] if marked else ""))
            at = end + 1
        return found

    def table(self, first: str) -> list[list[str]]:
        """The rows of the table whose first column has that title: their cells as they are written."""
        head = f"| {first} |"
        rows = self.text.partition(f"\n{head}")[2].partition("\n\n")[0].splitlines()[2:]
        assert rows, f"{self.name} has no table of {first!r}"
        return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def _all() -> list[Document]:
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("signer_client/*.md")]
    return [Document(str(path.relative_to(ROOT))) for path in sorted(paths)]


DOCUMENTS = _all()
BLOCKS = [block for document in DOCUMENTS for block in document.blocks]
