"""The README says what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aiohttp import web

from gateway.flag_text import flag_table
from gateway.settings import GATEWAY_FLAGS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def between(start: str, end: str) -> str:
    return README.partition(start)[2].partition(end)[0].strip()


def test_its_table_of_flags_is_the_tables() -> None:
    assert between("checked by a test -->", "<!-- /flags -->") == flag_table(GATEWAY_FLAGS)


def test_every_file_that_it_names_is_there() -> None:
    for path in re.findall(r"`((?:gateway|signer_client|scripts|config|tests|benchmarks)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path


def test_every_picture_and_link_of_it_is_there() -> None:
    linked = [path for path in re.findall(r"\]\(([^)#]+)[^)]*\)", README) if "://" not in path]
    assert "docs/page.jpg" in linked
    assert all((ROOT / path).is_file() for path in linked)


@pytest.mark.parametrize("library", ["aiohttp", "aiortc", "grpclib", "sqlalchemy", "structlog", "uvloop"])
def test_its_dependencies_are_locked_with_hashes_and_no_address(library: str) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert re.search(rf"^{library}==[\w.]+ .*\\\n    --hash=sha256:", lock, re.MULTILINE)
    assert "http" not in re.sub(r"^(ai)?(o?http\w*|httptools)==", "", lock, flags=re.MULTILINE).replace(
        "aiohttp", ""
    )


@pytest.mark.asyncio
async def test_its_signer_example_runs(unused_tcp_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    async def who(_: web.Request) -> web.Response:
        signature = "0x" + "11" * 65
        return web.json_response(
            {"address": "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23", "signature": signature}
        )

    app = web.Application()
    app.router.add_post("/sign-orchestrator-info", who)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    code = re.search(r"```python\n(.*?)```", between("run by a test -->", "<!-- /example -->"), re.DOTALL)
    assert code is not None
    source = code[1].replace("https://signer.example", f"http://127.0.0.1:{unused_tcp_port}")
    source = source.replace("asyncio.run(main())", "")
    names: dict[str, object] = {}
    exec(compile(source, "README.md", "exec"), names)
    try:
        await names["main"]()  # type: ignore[operator]
    finally:
        await runner.cleanup()
    assert "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23" in capsys.readouterr().out
