"""The document of the flags is what the code says of them."""

from __future__ import annotations

from gateway.flag_text import flags_document
from gateway.go_livepeer import document
from gateway.settings import FLAG_GROUPS, GATEWAY_FLAGS
from tests.docs.documents import Document


def test_it_is_what_the_settings_print() -> None:
    printed = flags_document(FLAG_GROUPS)
    assert Document("docs/flags.md").text == f"{printed}\n", (
        "run .venv/bin/python -m gateway.settings > docs/flags.md"
    )


def test_that_for_operators_of_go_livepeer_is_too() -> None:
    assert Document("docs/from-go-livepeer.md").text == f"{document(GATEWAY_FLAGS)}\n", (
        "run .venv/bin/python -m gateway.settings from-go-livepeer > docs/from-go-livepeer.md"
    )
