"""What the documents name is there: files, links, flags, metrics, and names of the code."""

from __future__ import annotations

import re
import tomllib
from functools import cache

import pytest

from gateway.candidates.verdict import Verdict
from gateway.devnet.settings import DEVNET_FLAGS
from gateway.doctor.doctor import DOCTOR_FLAGS
from gateway.http.problem import ProblemCode
from gateway.http.tokens import parse_line
from gateway.reason import EndReason
from gateway.settings import GATEWAY_FLAGS
from tests.docs.documents import DOCUMENTS, ROOT, Document

FOLDERS = "gateway|signer_client|scripts|config|tests|benchmarks|harness|docs"
API, ACCESS = Document("docs/api.md"), Document("docs/access.md")

OTHERS_FLAGS = {
    "format",
    "stream",
    "markup",
    "help",
    "name",
    "minutes",
    "seed",
    "liveRunnerConfig",
    "orchSecret",
}
"""Flags of `livepeer-gateway ledger`, `scripts/chaos`, the devnet's parts, and the one for any."""
METHODS = ("GET", "POST", "PATCH", "DELETE")
OTHERS_WORDS = {"range exceeds limit"}
"""Sentences of RPC providers."""
WITH_FOREIGN_FLAGS = {"docs/clients.md", "docs/from-go-livepeer.md"}
"""Documents that show the flags of other programs."""
WITH_NAMES = [
    document
    for document in DOCUMENTS
    if document.name in ("docs/architecture.md", "docs/protocol.md", "CONTRIBUTING.md")
    or document.name.startswith("docs/decisions/")
]

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


@each_document
def test_every_path_that_it_names_is_there(document: Document) -> None:
    for code in document.inline_code:
        for path in re.findall(rf"(?<![\w/.])((?:{FOLDERS})/[\w/.*-]*\w)", code):
            assert list(ROOT.glob(path)), f"{document.name} names {path}"
        for module in re.findall(r"^gateway(?:\.[a-z_0-9]+)+", code):
            path = module.replace(".", "/")
            assert list(ROOT.glob(f"{path}*")), f"{document.name} names {module}"


@each_document
def test_every_link_leads_somewhere(document: Document) -> None:
    for link in document.links:
        path, _, anchor = link.partition("#")
        target = (ROOT / document.name).parent / path if path else ROOT / document.name
        assert target.exists(), f"{document.name} links to {link}"
        if anchor:
            linked = Document(str(target.resolve().relative_to(ROOT)))
            assert anchor in linked.anchors, f"{document.name} links to {link}"


@each_document
def test_every_flag_that_it_names_is_one(document: Document) -> None:
    if document.name in WITH_FOREIGN_FLAGS:
        return
    known = {flag.name for flag in (*GATEWAY_FLAGS, *DEVNET_FLAGS, *DOCTOR_FLAGS)} | OTHERS_FLAGS
    for code in document.inline_code:
        for name in re.findall(r"(?:^| )-([a-zA-Z]{4,})", code):
            assert name in known, f"{document.name} names -{name}"


@each_document
def test_it_begins_with_a_sentence_that_says_what_it_answers(document: Document) -> None:
    title, _, rest = document.text.partition("\n\n")
    assert re.fullmatch(r"# .+", title)
    sentence = " ".join(rest.partition("\n\n")[0].split())
    assert "." in sentence, document.name
    assert len(sentence.split(". ")[0]) < 200, document.name


@each_document
def test_its_code_is_fenced_and_says_its_language(document: Document) -> None:
    assert all(block.language for block in document.blocks), document.name
    indented = re.findall(r"(?:^|\n)\n {4}\S.*", document.prose)
    assert not indented, f"{document.name} has an indented block: {indented[0]}"


@pytest.mark.parametrize("document", WITH_NAMES, ids=lambda document: document.name)
def test_every_name_of_the_code_is_in_the_code(document: Document) -> None:
    for code in document.inline_code:
        name = code.removesuffix("()")
        if re.fullmatch(r"[A-Z][A-Za-z0-9]+[a-z0-9]|[A-Z_]{4,}|[a-z]+(_[a-z]+)+", name):
            assert name in words_of_the_code(), f"{document.name} names {name}"


@each_document
def test_a_name_is_in_the_file_that_it_is_said_to_be_in(document: Document) -> None:
    prose = " ".join(document.prose.split())
    for name, path in re.findall(r"`(\w+)[^`]*` in `([\w/]+\.(?:py|js))`", prose):
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), f"{document.name}: {name} in {path}"
    for path, name in re.findall(r"`([\w/]+\.(?:py|js))` \(`(\w+)`\)", prose):
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), f"{document.name}: {name} in {path}"


@each_document
def test_every_sentence_that_it_quotes_is_said_by_the_code(document: Document) -> None:
    for code in document.inline_code:
        for words in re.split(r"\s*\.\.\s*", code):
            quoted = re.fullmatch(r"[A-Za-z',]+(?: [A-Za-z',]+)+", words)
            if quoted and words.partition(" ")[0] not in METHODS and words not in OTHERS_WORDS:
                assert words in sentences_of_the_code(), f"{document.name} quotes {words!r}"


@cache
def sentences_of_the_code() -> str:
    """The source of the gateway with string literals joined and their fields as `..`."""
    source = " ".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    return re.sub(r"\{[^{}]*\}", "..", re.sub(r'"\s*\n\s*f?"', "", source))


@cache
def words_of_the_code() -> frozenset[str]:
    places = [ROOT / name for name in ("gateway", "signer_client", "harness", "tests", "benchmarks")]
    files = [path for place in places for path in place.rglob("*") if path.suffix in (".py", ".js", ".proto")]
    texts = (path.read_text() for path in files if path.parent.name != "docs")
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


def test_the_metrics_are_those_that_are_served() -> None:
    source = (ROOT / "gateway" / "telemetry" / "metrics.py").read_text()
    for name in re.findall(r"livepeer_\w+", Document("docs/operations.md").prose):
        stem = name.removeprefix("livepeer_").removesuffix("_total")
        assert f'"{stem}"' in source or f'"livepeer_{stem}"' in source, name


@pytest.mark.parametrize(("title", "words"), [("verdict", Verdict), ("reason", EndReason)])
def test_every_verdict_and_end_reason_is_explained(
    title: str, words: type[Verdict] | type[EndReason]
) -> None:
    explained = [word for row in API.table(title) for word in re.findall(r"`(\w+)`", row[0])]
    assert sorted(explained) == sorted(words)


def test_every_code_of_a_refusal_is_listed() -> None:
    listed = [code for row in API.table("status") for code in re.findall(r"`([a-z_]{5,})`", row[1])]
    assert sorted(listed) == sorted(ProblemCode)


def test_every_library_that_is_used_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["chain"]]
    rows = Document("docs/architecture.md").table("library")
    explained = {name for row in rows for name in row[0].split(", ")}
    assert {re.split(r"[\[<>=; ]", line)[0] for line in wanted} == explained


def test_every_package_is_on_the_map() -> None:
    rows = Document("docs/architecture.md").table("folder")
    folders = {path.strip("/`") for row in rows for path in row[0].split(", ")}
    packages = {f"gateway/{path.parent.name}" for path in ROOT.glob("gateway/*/__init__.py")}
    assert packages <= folders


def test_the_example_of_a_token_file_can_be_read() -> None:
    example = next(block for block in ACCESS.blocks if "maxStreams" in block.text)
    grants = [parse_line(line) for line in example.text.splitlines()]
    assert all(grants)
    explained = {row[0].strip("`=") for row in ACCESS.table("option")}
    assert explained >= set(re.findall(r"(\w+)=", example.text))


def test_tests_lie_in_a_folder_named_like_the_code_that_they_test() -> None:
    packages = {path.parent.name for path in ROOT.glob("gateway/*/__init__.py")}
    others = {"benchmarks", "data", "docs", "e2e", "harness", "link", "pages", "signer_client"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("*.py"))}
    assert packages <= folders <= packages | others
