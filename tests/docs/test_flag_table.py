"""The document of the flags is what the code says of them."""

from __future__ import annotations

from gateway.flag_text import flags_document
from gateway.settings import FLAG_GROUPS
from tests.docs.documents import Document


def test_it_is_what_the_settings_print() -> None:
    printed = flags_document(FLAG_GROUPS)
    assert Document("docs/flags.md").text == f"{printed}\n", (
        "run .venv/bin/python -m gateway.settings > docs/flags.md"
    )
