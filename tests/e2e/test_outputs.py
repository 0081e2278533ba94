"""Outputs of a stream of the real daemon: asked for by the publish and while it is live, refused, ended."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from harness.gateway import BIN, GatewayProcess, gateway_process
from harness.waiting import eventually, within
from tests.outputs.media import far_end, probed, transport_stream


async def outputs(gateway: GatewayProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await gateway.status("cam")).get("outputs", [])
    return found


@pytest.mark.asyncio
async def test_a_stream_goes_on_to_servers_and_files(tmp_path: Path, unused_tcp_port_factory: Any) -> None:
    rtmp, srt = unused_tcp_port_factory(), unused_tcp_port_factory()
    key = f"rtmp://127.0.0.1:{rtmp}/live/s3cret"
    got = {name: tmp_path / f"{name}.mkv" for name in ("rtmp", "srt")}
    copy = ("-c", "copy", "-f", "matroska")
    far = [
        await far_end("-listen", "1", "-i", key, *copy, str(got["rtmp"])),
        await far_end("-i", f"srt://127.0.0.1:{srt}?mode=listener", *copy, str(got["srt"])),
    ]
    file = f"file:{tmp_path}/{{stream}}.ts"
    async with gateway_process(tmp_path, "-outputHosts", "127.0.0.1", "-output", file) as gateway:
        clip = tmp_path / "clip.ts"
        clip.write_bytes(transport_stream(4))
        url = gateway.live(f"cam/whip?rtmpOutput={quote(key, safe='')}")
        publisher = await asyncio.create_subprocess_exec(
            BIN / "livepeer-gateway", "publish", clip, url, "-loop", stdout=asyncio.subprocess.DEVNULL
        )

        async def live(count: int) -> bool:
            response = await gateway.http.get(gateway.live("cam/status"))
            if response.status != 200:
                return False
            return [one["state"] for one in await outputs(gateway)] == ["live"] * count

        await eventually(lambda: live(2), what="the outputs of the publish")
        body = {"url": f"srt://127.0.0.1:{srt}", "source": True}
        async with gateway.http.post(gateway.live("cam/outputs"), json=body) as response:
            assert response.status == 201
            added = (await response.json())["id"]
        await eventually(lambda: live(3), what="the output that was added")
        for url, status in (("rtmp://10.0.0.1/live/key", 400), ("file:/tmp/x.ts", 400), (body["url"], 400)):
            async with gateway.http.post(gateway.live("cam/outputs"), json={**body, "url": url}) as response:
                assert response.status == status
                assert (await response.json())["code"] == "bad_output"
        assert "s3cret" not in str(await gateway.status("cam")) + gateway.log.read_text()
        far[0].send_signal(signal.SIGSTOP)
        await asyncio.sleep(2)
        assert (await gateway.status("cam"))["output"]["gaps"] == 0
        far[0].send_signal(signal.SIGCONT)
        async with gateway.http.delete(gateway.live(f"cam/outputs/{added}")) as response:
            assert response.status == 200
        await within(far[1].wait(), what="the end of the output that was removed")
        publisher.terminate()
        await within(publisher.wait())
        await within(far[0].wait(), what="the end of the stream")
        await gateway.given_back()
    for name in (got["rtmp"], got["srt"], tmp_path / "cam.ts"):
        assert (await probed(name))["video"]["packets"] > 15, name


@pytest.mark.asyncio
async def test_a_recording_is_read_after_the_stream_and_after_a_kill(tmp_path: Path) -> None:
    folder, copies = tmp_path / "recordings", tmp_path / "copies"
    copies.mkdir()
    clip = tmp_path / "clip.ts"
    clip.write_bytes(transport_stream(4))
    flags = ("-record", str(folder), "-recordWhat", "both", "-recordDone", f"cp {{file}} {copies}")
    async with gateway_process(tmp_path, *flags) as gateway:

        async def publish(seconds: float) -> asyncio.subprocess.Process:
            publisher = await asyncio.create_subprocess_exec(
                *(BIN / "livepeer-gateway", "publish", clip, gateway.live("cam/whip"), "-loop"),
                stdout=asyncio.subprocess.DEVNULL,
            )

            async def recorded() -> bool:
                response = await gateway.http.get(gateway.live("cam/status"))
                if response.status != 200:
                    return False
                found = await outputs(gateway)
                return len(found) == 2 and all(one["bytes"] > 30_000 for one in found)

            await eventually(recorded, what="the recordings")
            await asyncio.sleep(seconds)
            return publisher

        publisher = await publish(1.0)
        async with gateway.http.post(gateway.live("cam/update"), json={"effect": "mirror"}) as response:
            assert response.status == 200
        publisher.terminate()
        await within(publisher.wait())
        await eventually(lambda: len(list(copies.glob("*.mp4"))) == 2, what="the command for both files")
        await gateway.given_back()
        for file in copies.glob("*.mp4"):
            assert (await probed(file))["video"]["packets"] > 15, file
            facts = json.loads((folder / "cam" / file.name).with_suffix(".json").read_text())
            assert facts["ended_at"] > facts["began_at"]
            assert int(facts["stream_credited_wei"]) > 0
            assert facts["params"][-1]["params"] == {"effect": "mirror"}
            assert facts["orchestrators"][0]["url"].startswith("https://")
        former = set(folder.glob("cam/*.mp4"))
        publisher = await publish(2.0)
        gateway.process.kill()
        await gateway.process.wait()
        await within(publisher.wait())
        after = set(folder.glob("cam/*.mp4")) - former
        assert len(after) == 2
        for file in after:
            assert (await probed(file))["video"]["packets"] > 30, file
