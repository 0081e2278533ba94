"""The README is short and leads to all that is longer."""

from __future__ import annotations

from tests.docs.documents import DOCUMENTS, ROOT, Document

README = Document("README.md")


def test_it_has_at_most_8_kib() -> None:
    assert (ROOT / "README.md").stat().st_size <= 8192


def test_it_shows_the_page_and_both_commands() -> None:
    assert "docs/page.jpg" in README.links
    assert [block.text for block in README.blocks][:2] == ["scripts/run", "scripts/test"]


def test_it_leads_to_every_document() -> None:
    linked = {link.partition("#")[0] for link in README.links}
    expected = {document.name for document in DOCUMENTS if "/decisions/0" not in document.name}
    assert expected - {"README.md"} <= linked


def test_the_decisions_are_all_listed() -> None:
    listed = Document("docs/decisions/README.md").links
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs/decisions").glob("0*.md"))
