"""The devnet's ComfyStream, held to the interface that ComfyStream publishes (its server/app.py)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from gateway.devnet.comfystream import control
from gateway.devnet.comfystream.pipeline import PASS_THROUGH, WARM_UP_RUNS, BadPrompts, Pipeline
from gateway.devnet.comfystream.server import ComfyStream, ComfyStreamConfig
from harness.waiting import eventually
from harness.webrtc import PatternTrack, encoded_pattern, luma_of_halves


def effect(name: str) -> dict[str, Any]:
    return {"1": {"class_type": "Effect", "inputs": {"effect": name}}}


def told(prompt: dict[str, Any]) -> dict[str, Any]:
    """A prompt as `nodes_info` tells of it; the devnet knows nothing of an input's type."""
    unknown = {"type": "unknown", "min": None, "max": None, "widget": None}
    return {
        name: {
            "class_type": node["class_type"],
            "inputs": {key: {"value": value, **unknown} for key, value in node["inputs"].items()},
        }
        for name, node in prompt.items()
    }


SUCCESS = {"success": True}
MIRROR, GREY = effect("mirror"), effect("grey")

# request -> answer, on a connection whose prompts are one MIRROR; None is no answer at all
MESSAGES = [
    ({"type": "get_nodes"}, {"type": "nodes_info", "nodes": {"0": told(MIRROR)}}),
    ({"type": "update_prompts", "prompts": [GREY]}, {"type": "prompts_updated", **SUCCESS}),
    ({"type": "update_prompts", "prompts": GREY}, {"type": "prompts_updated", **SUCCESS}),
    (
        {"type": "update_prompts"},
        {
            "type": "prompts_updated",
            "success": False,
            "error": "Missing 'prompts' in control message",
        },
    ),
    (
        {"type": "update_prompts", "prompts": [GREY, GREY]},
        {
            "type": "prompts_updated",
            "success": False,
            "error": "Number of updated prompts must match the number of currently running prompts.",
        },
    ),
    (
        {"type": "update_resolution", "width": 512, "height": 768},
        {"type": "resolution_updated", **SUCCESS},
    ),
    (
        {"type": "update_resolution", "width": 512},
        {
            "type": "resolution_updated",
            "success": False,
            "error": "Missing 'width' or 'height' in control message",
        },
    ),
    ({"type": "pause_prompts"}, {"type": "prompts_paused", **SUCCESS}),
    ({"type": "resume_prompts"}, {"type": "prompts_resumed", **SUCCESS}),
    ({"type": "stop_prompts"}, {"type": "prompts_stopped", **SUCCESS}),
    ({"type": "dance"}, None),
    ({"prompts": [GREY]}, None),
    ([], None),
]


@pytest.mark.parametrize(("request_", "expected"), MESSAGES)
def test_each_message_is_answered_as_comfystream_answers_it(request_: Any, expected: Any) -> None:
    pipeline = Pipeline("negative")
    pipeline.apply([MIRROR])
    answer = control.answer(json.dumps(request_), pipeline, has_prompts=True)
    assert (None if answer is None else json.loads(answer)) == expected


def test_what_is_no_json_gets_no_answer() -> None:
    assert control.answer("{", Pipeline("negative"), has_prompts=True) is None


def test_prompts_stand_still_over_a_refused_update_until_they_are_stopped_and_resumed() -> None:
    pipeline = Pipeline("negative")
    pipeline.apply([MIRROR])

    def said(kind: str, **fields: Any) -> Any:
        answer = control.answer(json.dumps({"type": kind, **fields}), pipeline, has_prompts=True)
        assert answer is not None
        return json.loads(answer)

    assert not said("update_prompts", prompts=[effect("loud")])["success"]
    assert not pipeline.running
    assert said("resume_prompts")["error"] == "Cannot start streaming in state: ERROR"
    assert said("stop_prompts")["success"]
    assert said("resume_prompts")["success"]
    assert pipeline.running
    assert pipeline.effect == "mirror"


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (kind, answer)
        for kind, answer in control.ANSWERS.items()
        if kind.startswith(("pause", "resume", "stop"))
    ],
)
def test_a_connection_without_prompts_has_nothing_to_pause_and_says_that_it_did(
    kind: str, answer: str
) -> None:
    pipeline = Pipeline("negative")
    pipeline.apply([MIRROR])  # another connection's
    said = control.answer(json.dumps({"type": kind}), pipeline, has_prompts=False)
    assert said is not None
    assert json.loads(said) == {"type": answer, "success": True}
    assert pipeline.running


@pytest.mark.parametrize(
    ("prompts", "shown"),
    [
        ([effect("mirror")], "mirror"),
        ([{"1": {"class_type": "LoadImage", "inputs": {}}}], "negative"),
        ([effect("mirror"), effect("grey")], "grey"),
        ([effect("none")], "none"),
    ],
)
def test_an_effect_node_chooses_the_effect_and_unknown_nodes_change_nothing(
    prompts: list[dict[str, Any]], shown: str
) -> None:
    pipeline = Pipeline("negative")
    pipeline.apply(prompts)
    assert pipeline.effect == shown


UNCLEAR = {"1": {"class_type": "Raise", "inputs": {"run": "soon"}}}


@pytest.mark.parametrize("prompts", [[], [[]], ["text"], [{}], [{"1": {}}], [effect("loud")], [UNCLEAR]])
def test_prompts_that_are_none_are_refused_and_change_nothing(prompts: Any) -> None:
    pipeline = Pipeline("negative")
    pipeline.apply([MIRROR])
    with pytest.raises(BadPrompts):
        pipeline.apply(prompts)
    assert pipeline.effect == "mirror"


def test_a_workflow_with_an_unknown_node_is_taken_and_passes_pictures_through() -> None:
    pipeline = Pipeline("negative")
    for take in (pipeline.apply, pipeline.update):
        take([{**MIRROR, "2": {"class_type": "DepthAnything", "inputs": {}}}])
        assert pipeline.effect == "none"
        assert {node["class_type"] for node in pipeline.nodes()["0"].values()} == {"LoadTensor", "SaveTensor"}
        pipeline.update([MIRROR])
        assert pipeline.effect == "mirror"


def raising(run: int) -> dict[str, Any]:
    return {**MIRROR, "2": {"class_type": "Raise", "inputs": {"run": run}}}


def test_a_node_that_raises_ends_the_warm_up_or_has_the_pictures_pass_through() -> None:
    pipeline = Pipeline("negative")
    pipeline.apply([raising(WARM_UP_RUNS)])
    assert not pipeline.warm_up()
    pipeline.apply([raising(WARM_UP_RUNS + 2)])
    assert pipeline.warm_up()
    pipeline.run()
    assert pipeline.effect == "mirror"
    pipeline.run()
    assert (pipeline.effect, pipeline.prompts) == ("none", [PASS_THROUGH])
    # an update is run once, and its success says nothing
    pipeline.update([raising(2)])
    assert pipeline.effect == "mirror"
    pipeline.update([raising(1)])
    assert pipeline.effect == "none"


@asynccontextmanager
async def server(**config: Any) -> AsyncIterator[ComfyStream]:
    one = ComfyStream(ComfyStreamConfig(**config))
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


class Client:
    """A browser's part, as ComfyStream's own page plays it."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.peer.addTransceiver(PatternTrack(encoded_pattern()), direction="sendrecv")
        self.control = self.peer.createDataChannel("control")
        self.data = self.peer.createDataChannel("data")
        self.said: list[Any] = []
        self.texts: list[Any] = []
        self.left_and_right = (0.0, 0.0)
        self.control.on("message", lambda text: self.said.append(json.loads(text)))
        self.data.on("message", lambda text: self.texts.append(json.loads(text)))
        self.peer.on("track", self._on_track)
        self._watching: asyncio.Task[None] | None = None

    def _on_track(self, track: Any) -> None:
        async def watch() -> None:
            while True:
                self.left_and_right = luma_of_halves(await track.recv())

        self._watching = asyncio.get_running_loop().create_task(watch())

    async def offer(self, url: str, prompts: list[Any]) -> None:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        body = {"prompts": prompts, "offer": {"sdp": self.peer.localDescription.sdp, "type": "offer"}}
        async with aiohttp.ClientSession() as http, http.post(url, json=body) as response:
            assert response.status == 200
            await self.peer.setRemoteDescription(RTCSessionDescription(**await response.json()))

    @property
    def difference(self) -> float:
        left, right = self.left_and_right
        return right - left

    async def close(self) -> None:
        await self.peer.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)


async def state(one: ComfyStream) -> Any:
    async with aiohttp.ClientSession() as http, http.get(f"{one.url}/devnet/state") as response:
        return await response.json()


@pytest.mark.asyncio
async def test_pictures_come_back_changed_answered_and_with_texts() -> None:
    prompts = [{**effect("negative"), "2": {"class_type": "SaveTextTensor", "inputs": {"data": "a cat"}}}]
    client = Client()
    async with server() as one:
        try:
            await client.offer(f"{one.url}/live/offer", prompts)
            await eventually(lambda: client.difference > 60, what="the negative")
            await eventually(lambda: {"type": "text", "data": "a cat"} in client.texts, what="a text")
            client.control.send(json.dumps({"type": "update_prompts", "prompts": [effect("none")]}))
            await eventually(lambda: client.difference < -60, what="the picture as it was")
            assert client.said == [{"type": "prompts_updated", "success": True}]
        finally:
            await client.close()

        async def over() -> bool:
            told = await state(one)
            return not told["connections"] and not told["prompts"]

        await eventually(over, what="the prompts' end with their connection")


@pytest.mark.asyncio
async def test_pictures_that_come_in_a_pause_are_kept_and_texts_that_come_later_are_not_sent() -> None:
    client = Client()
    async with server() as one:
        try:
            await client.offer(f"{one.url}/offer", [MIRROR])
            await eventually(lambda: client.left_and_right != (0.0, 0.0), what="a picture")
            text = {"2": {"class_type": "SaveTextTensor", "inputs": {"data": "a cat"}}}
            client.control.send(json.dumps({"type": "update_prompts", "prompts": [{**MIRROR, **text}]}))
            client.control.send(json.dumps({"type": "pause_prompts"}))
            await eventually(lambda: len(client.said) == 2, what="the answers")

            async def grows() -> bool:
                return bool((await state(one))["pictures_kept"] > 20)

            await eventually(grows, what="pictures that are kept")
            assert not client.texts
        finally:
            await client.close()


@pytest.mark.asyncio
async def test_it_says_that_it_is_well_under_both_prefixes_and_refuses_what_is_no_offer() -> None:
    async with server() as one, aiohttp.ClientSession() as http:
        for path in ("/health", "/live/health"):
            async with http.get(one.url + path) as response:
                assert (response.status, await response.text()) == (200, "OK")
        for body in (b"{", b"[]", b'{"offer": {}}'):
            async with http.post(f"{one.url}/offer", data=body) as response:
                assert response.status == 400


@pytest.mark.asyncio
async def test_an_offer_waits_for_the_workflow_to_warm_up() -> None:
    client = Client()
    async with server(warm_up=0.5) as one:
        began = asyncio.get_running_loop().time()
        try:
            await client.offer(f"{one.url}/offer", [effect("grey")])
        finally:
            await client.close()
        assert asyncio.get_running_loop().time() - began > 0.5
