"""Turns the parameters of a publish or an update into ComfyStream's prompts and messages. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.aio.json_text import MAX_VALUES, parse_json
from gateway.comfystream.errors import BadParams

Workflow = dict[str, Any]
Message = dict[str, Any]

ACCEPTED = (
    "prompts (a ComfyUI workflow in API form, or a list of them), prompt (the same, or words), "
    "resolution ({width, height}), pause, resume, stop, or a message of ComfyStream's with its type"
)
TEXT_INPUTS = ("text", "prompt", "string", "value")
"""Inputs of a node that may hold its prompt, the most likely first."""
PLACEHOLDER = "{prompt}"
MAX_SIDE = 4_096
_ACTIONS = {"pause": "pause_prompts", "resume": "resume_prompts", "stop": "stop_prompts"}
_PROMPT_KEYS = ("prompts", "prompt")
_TEXT_OUTPUTS = frozenset({"SaveTextTensor"})
_SOUND_INPUTS = frozenset({"LoadAudioTensor"})


@dataclass(frozen=True)
class Wanted:
    """What a stream asks of a server, from the start on."""

    prompts: list[Workflow] = field(default_factory=list)
    """Empty: pictures come back unchanged."""
    resolution: dict[str, int] | None = None
    paused: bool = False


class Template:
    """A workflow with one text input that a prompt is put into.

    That is an input with `{prompt}` in it, else the text of the first CLIPTextEncode that has one, else the
    first input that is named like one.
    """

    def __init__(self, workflow: Workflow) -> None:
        """Raises BadParams where this is no workflow, or one without a text input."""
        self._workflow = check_workflow(workflow)
        found = _text_input(workflow)
        if found is None:
            raise BadParams("it has no text node: a node needs an input such as text that is not empty")
        self.node, self.input = found

    @classmethod
    def read(cls, path: Path) -> Template:
        """Read a file. Raises BadParams, also where the file cannot be read."""
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise BadParams(str(error)) from error

    def fill(self, prompt: str) -> Workflow:
        """The workflow with this prompt."""
        workflow = deepcopy(self._workflow)
        inputs = workflow[self.node]["inputs"]
        former = inputs[self.input]
        inputs[self.input] = former.replace(PLACEHOLDER, prompt) if PLACEHOLDER in former else prompt
        return workflow


def check_workflow(workflow: object) -> Workflow:
    """Check a workflow in ComfyUI's API form: nodes by id, each with class_type and inputs.

    Raises BadParams.
    """
    if not isinstance(workflow, dict) or not workflow:
        raise BadParams("a workflow is an object of nodes, as ComfyUI exports it in API form")
    if isinstance(workflow.get("nodes"), list):
        raise BadParams("this workflow is in the editor's form: export it in API form")
    for name, node in workflow.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise BadParams(f"node {name!r} of the workflow has no class_type")
        if not isinstance(node.get("inputs", {}), dict):
            raise BadParams(f"the inputs of the workflow's node {name!r} are not an object")
    return workflow


def wanted(params: Mapping[str, Any], template: Template | None) -> Wanted:
    """What these parameters, the newest last, ask for together. Raises BadParams."""
    prompts: list[Workflow] = []
    paused = False
    for key, value in params.items():
        if key in _PROMPT_KEYS:
            prompts = read_prompts(value, template)
        else:
            action = _action(key, value)
            paused = action != "resume_prompts" if action is not None else paused
    return Wanted(prompts, read_resolution(params), paused)


def messages(update: Mapping[str, Any], template: Template | None) -> list[Message]:
    """The messages for one update. Raises BadParams where there are none."""
    kind = update.get("type")
    if isinstance(kind, str):
        return [dict(update)]
    found: list[Message] = []
    resolution = read_resolution(update)
    if resolution is not None:
        found.append({"type": "update_resolution", **resolution})
    for key, value in update.items():
        action = _action(key, value)
        if key in _PROMPT_KEYS:
            found.append({"type": "update_prompts", "prompts": read_prompts(value, template)})
        elif action is not None:
            found.append({"type": action})
    if not found:
        raise BadParams(f"nothing in it is known to ComfyStream: it accepts {ACCEPTED}")
    return found


def lasting(update: Mapping[str, Any]) -> dict[str, Any]:
    """What of an update a later start has to know: a message's `type` is none of it, what it does is.

    Empty for a message that only asks.
    """
    action = _action("type", update.get("type"))
    kept = {key: value for key, value in update.items() if key != "type"}
    if action is not None:
        kept["pause"] = action != "resume_prompts"
    return kept


def gives_texts(prompts: Sequence[Workflow]) -> bool:
    """Whether these workflows give out texts."""
    return _has(prompts, _TEXT_OUTPUTS)


def takes_sound(prompts: Sequence[Workflow]) -> bool:
    """Whether these workflows take the sound, and not only pass it through."""
    return _has(prompts, _SOUND_INPUTS)


def _has(prompts: Sequence[Workflow], classes: frozenset[str]) -> bool:
    return any(node["class_type"] in classes for workflow in prompts for node in workflow.values())


def read_prompts(value: object, template: Template | None) -> list[Workflow]:
    """One prompt or a list: a workflow, the same as JSON text, or words for the template.

    Raises BadParams.
    """
    if value is None or value == "":
        return []
    given = value if isinstance(value, list) else [value]
    if sum(one.count(",") + 1 for one in given if isinstance(one, str)) > MAX_VALUES:
        raise BadParams(f"the prompts have more than {MAX_VALUES} values in their texts")
    return [_workflow(one, template) for one in given]


def _workflow(value: object, template: Template | None) -> Workflow:
    if not isinstance(value, str):
        return check_workflow(value)
    if value.lstrip().startswith("{") and not value.lstrip().startswith(PLACEHOLDER):
        try:
            workflow = parse_json(value)
        except ValueError as error:
            raise BadParams(f"the prompt begins like a workflow but is not JSON: {error}") from error
        return check_workflow(workflow)
    if template is None:
        raise BadParams("a prompt in words needs a workflow to put it into: start with -comfyWorkflow FILE")
    return template.fill(value)


def read_resolution(params: Mapping[str, Any]) -> dict[str, int] | None:
    """`resolution`, or `width` and `height` beside it; None without either. Raises BadParams."""
    given = params.get("resolution")
    if given is None and "width" in params and "height" in params:
        given = {"width": params["width"], "height": params["height"]}
    if given is None:
        return None
    sides = (given.get("width"), given.get("height")) if isinstance(given, dict) else (None, None)
    if any(type(side) is not int or not 1 <= side <= MAX_SIDE for side in sides):
        raise BadParams(f"resolution takes width and height, whole numbers from 1 to {MAX_SIDE}")
    return {"width": int(sides[0]), "height": int(sides[1])}  # type: ignore[arg-type]


def _action(key: str, value: object) -> str | None:
    if key == "type":
        return value if value in _ACTIONS.values() else None  # type: ignore[return-value]
    if key not in _ACTIONS or not isinstance(value, bool):
        return None
    if value:
        return _ACTIONS[key]
    return "resume_prompts" if key == "pause" else None


def _text_input(workflow: Workflow) -> tuple[str, str] | None:
    """The node's id and the name of the input that a prompt is put into."""
    texts = [
        (node, name, text)
        for node, fields in workflow.items()
        for name, text in fields.get("inputs", {}).items()
        if isinstance(text, str)
    ]
    marked = [(node, name) for node, name, text in texts if PLACEHOLDER in text]
    encoded = [
        (node, name)
        for node, name, text in texts
        if workflow[node]["class_type"] == "CLIPTextEncode" and name == "text" and text
    ]
    likely = [(node, name) for name in TEXT_INPUTS for node, other, _ in texts if other == name]
    return next(iter([*marked, *encoded, *likely]), None)
