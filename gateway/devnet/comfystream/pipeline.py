"""The pipeline that all connections of the server share. No I/O."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from gateway.devnet.settings import EFFECTS

EFFECT_NODE = "Effect"
TEXT_NODE = "SaveTextTensor"
"""ComfyStream's node for text results."""
RAISING_NODE = "Raise"
"""A node that raises from the run on that its input `run` numbers, from the first by default."""
WARM_UP_RUNS = 5
"""How often ComfyStream runs the workflow of an offer before it answers."""
PASS_THROUGH = {
    "1": {"class_type": "SaveTensor", "inputs": {"images": ["2", 0]}},
    "2": {"class_type": "LoadTensor", "inputs": {}},
}
"""What ComfyStream runs in the place of a workflow that failed."""
KNOWN_NODES = frozenset(
    {
        EFFECT_NODE,
        TEXT_NODE,
        RAISING_NODE,
        "LoadTensor",
        "PrimaryInputLoadImage",
        "LoadImage",
        "LoadAudioTensor",
        "SaveTensor",
        "PreviewImage",
        "SaveImage",
        "SaveAudioTensor",
        "CLIPTextEncode",
    }
)
"""Classes of nodes that run here. A workflow with another fails when it is run, and not before."""
MAX_PROMPTS = 16
MAX_TEXT = 4_096

Workflow = dict[str, Any]


class BadPrompts(ValueError):
    """An invalid workflow; the text is sent to the client."""


def workflows(prompts: object) -> list[Workflow]:
    """One workflow in API form, or a list of them, as a list. Raises BadPrompts."""
    found: list[Any] = prompts if isinstance(prompts, list) else [prompts]
    if not found:
        raise BadPrompts("Cannot set empty prompts list")
    if len(found) > MAX_PROMPTS:
        raise BadPrompts(f"more than {MAX_PROMPTS} prompts")
    for workflow in found:
        _check(workflow)
    return found


def _check(workflow: object) -> None:
    if not isinstance(workflow, dict) or not workflow:
        raise BadPrompts("a prompt is an object of nodes")
    for name, node in workflow.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise BadPrompts(f"node {name}: it has no class_type")
        inputs = node.get("inputs")
        if not isinstance(inputs, dict):
            raise BadPrompts(f"node {name}: it has no inputs")
        if node["class_type"] == EFFECT_NODE and inputs.get("effect") not in EFFECTS:
            raise BadPrompts(f"node {name}: effect takes {', '.join(EFFECTS)}")
        if node["class_type"] == RAISING_NODE and type(inputs.get("run", 1)) is not int:
            raise BadPrompts(f"node {name}: run takes a whole number")


@dataclass
class Size:
    width: int = 512
    height: int = 512


class Pipeline:
    """The prompts that are set, and whether they run."""

    def __init__(self, effect: str) -> None:
        self.size = Size()
        self.prompts: list[Workflow] = []
        self.changes = 0
        """Count of changes of the prompts."""
        self._default_effect = effect
        self._running = asyncio.Event()
        self._failed = False
        self._runs = 0
        """How often the prompts have run."""

    @property
    def running(self) -> bool:
        return self._running.is_set()

    async def wait_running(self) -> None:
        """Wait while the prompts are paused or stopped: then there are no pictures."""
        await self._running.wait()

    @property
    def effect(self) -> str:
        """The effect of the prompts' last effect node, else the default; none for the pass-through."""
        if self.prompts == [PASS_THROUGH]:
            return "none"
        nodes = [node for workflow in self.prompts for node in workflow.values()]
        chosen = [node["inputs"]["effect"] for node in nodes if node["class_type"] == EFFECT_NODE]
        return chosen[-1] if chosen else self._default_effect

    @property
    def texts(self) -> list[str]:
        """The texts of the prompts' text nodes for one picture."""
        nodes = [node for workflow in self.prompts for node in workflow.values()]
        found = [node["inputs"].get("data") for node in nodes if node["class_type"] == TEXT_NODE]
        return [text[:MAX_TEXT] for text in found if isinstance(text, str)]

    def apply(self, prompts: object) -> None:
        """Set and run these prompts. Raises BadPrompts; then nothing changes."""
        self._set(workflows(prompts))
        self._failed = False
        self._running.set()

    def warm_up(self) -> bool:
        """Run the prompts as an offer does; False where a node raises, so that it is never answered."""
        self._runs += WARM_UP_RUNS
        return not self._raises()

    def run(self) -> None:
        """Run the prompts once; where a node raises, the pictures pass through from then on."""
        self._runs += 1
        if self._raises():
            self.fall_back()

    def update(self, prompts: object) -> None:
        """Replace the prompts by as many others.

        Raises BadPrompts; as in ComfyStream, the former prompts then do not run until they are stopped and
        resumed.
        """
        try:
            found = workflows(prompts)
            if len(found) != len(self.prompts):
                raise BadPrompts(
                    "Number of updated prompts must match the number of currently running prompts."
                )
        except BadPrompts:
            self._failed = True
            self._running.clear()
            raise
        self._set(found)
        self.run()

    def fall_back(self) -> None:
        """A workflow failed as it ran: the pictures pass through from now on, and nobody is told."""
        self.prompts = [PASS_THROUGH]

    def _set(self, found: list[Workflow]) -> None:
        self.prompts = found
        self.changes += 1
        self._runs = 0
        if any(node["class_type"] not in KNOWN_NODES for flow in self.prompts for node in flow.values()):
            self.fall_back()

    def _raises(self) -> bool:
        nodes = [node for flow in self.prompts for node in flow.values()]
        raising = [node["inputs"].get("run", 1) for node in nodes if node["class_type"] == RAISING_NODE]
        return any(first <= self._runs for first in raising)

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        """Run again. Raises RuntimeError where there are no prompts or the last update failed."""
        if self._failed or not self.prompts:
            state = "ERROR" if self._failed else "UNINITIALIZED"
            raise RuntimeError(f"Cannot start streaming in state: {state}")
        self._running.set()

    def stop(self, *, cleanup: bool = False) -> None:
        """Stop the prompts; with `cleanup`, at a connection's end, remove them too."""
        self._running.clear()
        self._failed = False
        if cleanup:
            self.prompts = []

    def nodes(self) -> dict[str, Any]:
        """The nodes of each prompt by index, with their inputs; the inputs' types are unknown here."""
        unknown = {"type": "unknown", "min": None, "max": None, "widget": None}
        return {
            str(place): {
                name: {
                    "class_type": node["class_type"],
                    "inputs": {key: {"value": value, **unknown} for key, value in node["inputs"].items()},
                }
                for name, node in workflow.items()
            }
            for place, workflow in enumerate(self.prompts)
        }
