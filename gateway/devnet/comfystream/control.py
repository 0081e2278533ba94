"""Messages of the data channel `control` and their answers."""

from __future__ import annotations

import json
from typing import Any

from gateway.devnet.comfystream.pipeline import Pipeline, Size

Message = dict[str, Any]

ANSWERS = {
    "get_nodes": "nodes_info",
    "update_prompts": "prompts_updated",
    "update_resolution": "resolution_updated",
    "pause_prompts": "prompts_paused",
    "resume_prompts": "prompts_resumed",
    "stop_prompts": "prompts_stopped",
}
"""The `type` of each request, and of its answer."""


def answer(text: str | bytes, pipeline: Pipeline, *, has_prompts: bool) -> str | None:
    """Handle a message; returns the answer, None where ComfyStream gives none.

    `has_prompts`: whether the connection was offered with prompts; without, there is nothing to pause.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(kind, str) or kind not in ANSWERS:
        return None
    reply: Message = {"type": ANSWERS[kind]}
    if kind == "get_nodes":
        return json.dumps({**reply, "nodes": pipeline.nodes()})
    try:
        _do(kind, message, pipeline, has_prompts=has_prompts)
    except (ValueError, RuntimeError) as error:
        return json.dumps({**reply, "success": False, "error": str(error)})
    return json.dumps({**reply, "success": True})


def _do(kind: str, message: Message, pipeline: Pipeline, *, has_prompts: bool) -> None:
    if kind == "update_prompts":
        if "prompts" not in message:
            raise ValueError("Missing 'prompts' in control message")
        pipeline.update(message["prompts"])
    elif kind == "update_resolution":
        size = resolution(message)
        if size is None:
            raise ValueError("Missing 'width' or 'height' in control message")
        if has_prompts:
            pipeline.size = size
    elif has_prompts:
        {"pause_prompts": pipeline.pause, "resume_prompts": pipeline.resume, "stop_prompts": pipeline.stop}[
            kind
        ]()


def resolution(fields: object) -> Size | None:
    """`width` and `height`; None where one is missing or not a number above 0."""
    if not isinstance(fields, dict):
        return None
    width, height = fields.get("width"), fields.get("height")
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        return None
    return Size(width, height)
