"""What parameters come to: PROTOCOL's message names and fields, and prompts in every form that users have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.comfystream.channels import ANSWERS
from gateway.comfystream.errors import BadParams
from gateway.comfystream.prompts import Template, Wanted, lasting, messages, wanted
from gateway.devnet.comfystream import control
from gateway.stream.params import WorkerParams

FLOW = {"1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}}}
TEXT_FLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "5": {"class_type": "CLIPTextEncode", "inputs": {"text": "the hulk", "clip": ["2", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["2", 0]}},
}
TEMPLATE = Template(TEXT_FLOW)


def with_text(words: str) -> dict[str, Any]:
    return {**TEXT_FLOW, "5": {**TEXT_FLOW["5"], "inputs": {"text": words, "clip": ["2", 0]}}}


# an update's body -> what goes over the control channel
UPDATES: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({"prompts": FLOW}, [{"type": "update_prompts", "prompts": [FLOW]}]),
    ({"prompts": [FLOW, FLOW]}, [{"type": "update_prompts", "prompts": [FLOW, FLOW]}]),
    ({"prompt": FLOW}, [{"type": "update_prompts", "prompts": [FLOW]}]),
    ({"prompt": json.dumps(FLOW)}, [{"type": "update_prompts", "prompts": [FLOW]}]),
    ({"prompt": "a cat"}, [{"type": "update_prompts", "prompts": [with_text("a cat")]}]),
    ({"prompts": []}, [{"type": "update_prompts", "prompts": []}]),
    (
        {"resolution": {"width": 512, "height": 768}},
        [{"type": "update_resolution", "width": 512, "height": 768}],
    ),
    ({"width": 512, "height": 768}, [{"type": "update_resolution", "width": 512, "height": 768}]),
    ({"pause": True}, [{"type": "pause_prompts"}]),
    ({"pause": False}, [{"type": "resume_prompts"}]),
    ({"resume": True}, [{"type": "resume_prompts"}]),
    ({"stop": True}, [{"type": "stop_prompts"}]),
    ({"type": "get_nodes"}, [{"type": "get_nodes"}]),
    (
        {"resume": True, "resolution": {"width": 8, "height": 8}, "prompt": FLOW},
        [
            {"type": "update_resolution", "width": 8, "height": 8},
            {"type": "resume_prompts"},
            {"type": "update_prompts", "prompts": [FLOW]},
        ],
    ),
]


@pytest.mark.parametrize(("body", "sent"), UPDATES)
def test_an_update_becomes_comfystreams_messages(body: dict[str, Any], sent: list[dict[str, Any]]) -> None:
    assert messages(body, TEMPLATE) == sent


def test_the_gateway_and_the_devnets_server_know_the_same_messages() -> None:
    assert ANSWERS == control.ANSWERS


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "nothing in it is known"),
        ({"effect": "grey"}, "nothing in it is known"),
        ({"resume": False}, "nothing in it is known"),
        ({"prompts": 5}, "a workflow is an object of nodes"),
        ({"prompts": {}}, "a workflow is an object of nodes"),
        ({"prompts": {"1": {}}}, "node '1' of the workflow has no class_type"),
        ({"prompts": {"nodes": [], "links": []}}, "export it in API form"),
        ({"prompt": "{no json"}, "is not JSON"),
        ({"resolution": {"width": 0, "height": 1}}, "resolution takes"),
        ({"resolution": {"width": True, "height": 1}}, "resolution takes"),
        ({"resolution": "hd"}, "resolution takes"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(body: dict[str, Any], words: str) -> None:
    with pytest.raises(BadParams, match=words):
        messages(body, TEMPLATE)


def test_words_without_a_workflow_say_which_flag_is_missing() -> None:
    with pytest.raises(BadParams, match="-comfyWorkflow"):
        wanted({"prompt": "a cat"}, None)


@pytest.mark.parametrize(
    ("former", "newer", "expected"),
    [
        ({}, {}, Wanted()),
        ({"anything": 1}, {}, Wanted()),
        ({"prompts": FLOW}, {"prompt": "a cat"}, Wanted([with_text("a cat")])),
        ({"prompt": "a cat", "prompts": FLOW}, {"prompt": "a dog"}, Wanted([with_text("a dog")])),
        ({"prompts": FLOW}, {"prompts": None}, Wanted()),
        ({"pause": True}, {"resume": True}, Wanted()),
        ({"resume": True, "pause": True}, {"pause": True}, Wanted(paused=True)),
        ({"prompts": FLOW}, {"stop": True}, Wanted([FLOW], paused=True)),
        ({"type": "pause_prompts"}, {}, Wanted(paused=True)),
        ({"width": 1, "height": 2}, {}, Wanted(resolution={"width": 1, "height": 2})),
    ],
)
def test_a_start_has_the_newest_of_all_parameters(
    former: dict[str, Any], newer: dict[str, Any], expected: Wanted
) -> None:
    assert wanted(WorkerParams.of(former).updated(newer).values, TEMPLATE) == expected


@pytest.mark.parametrize(
    ("update", "kept"),
    [
        ({"prompts": FLOW, "pause": True}, {"prompts": FLOW, "pause": True}),
        ({"type": "get_nodes"}, {}),
        ({"type": "dance"}, {}),
        ({"type": "stop_prompts"}, {"pause": True}),
        ({"type": "resume_prompts"}, {"pause": False}),
        ({"type": "update_prompts", "prompts": [FLOW]}, {"prompts": [FLOW]}),
        ({"type": "update_resolution", "width": 1, "height": 2}, {"width": 1, "height": 2}),
    ],
)
def test_what_a_message_does_is_kept_for_a_later_start_and_its_type_is_not(
    update: dict[str, Any], kept: dict[str, Any]
) -> None:
    assert lasting(update) == kept


@pytest.mark.parametrize(
    ("flow", "node", "filled"),
    [
        (TEXT_FLOW, "5", "a cat"),
        ({**TEXT_FLOW, "9": {"class_type": "Say", "inputs": {"x": "oil, {prompt}"}}}, "9", "oil, a cat"),
        ({"1": {"class_type": "Say", "inputs": {"seed": 1, "text": "old"}}}, "1", "a cat"),
    ],
)
def test_words_go_into_the_workflows_text_node(flow: dict[str, Any], node: str, filled: str) -> None:
    template = Template(flow)
    assert template.node == node
    assert template.fill("a cat")[node]["inputs"][template.input] == filled
    assert template.fill("a dog") != template.fill("a cat"), "the template itself stays as it is"


@pytest.mark.parametrize(
    ("text", "words"), [("{", "Expecting"), ("[]", "object of nodes"), (json.dumps(FLOW), "no text node")]
)
def test_a_file_that_is_no_template_is_refused_with_a_reason(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "flow.json"
    file.write_text(text)
    with pytest.raises(BadParams, match=words):
        Template.read(file)
    with pytest.raises(BadParams, match="No such file"):
        Template.read(tmp_path / "missing.json")
