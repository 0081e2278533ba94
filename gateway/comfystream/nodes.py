"""Whether a server runs the workflows that it was given, by what it says of their nodes. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.comfystream.prompts import Workflow

CONVERTED = {
    "PrimaryInputLoadImage": "LoadTensor",
    "LoadImage": "LoadTensor",
    "PreviewImage": "SaveTensor",
    "SaveImage": "SaveTensor",
}
"""Classes of nodes that ComfyStream replaces by others of its own."""
PASS_THROUGH = ["LoadTensor", "SaveTensor"]
"""The classes of the nodes of the workflow that ComfyStream runs in the place of one that failed, sorted."""
FAILED = (
    "the server could not run the workflow and passes pictures through unchanged: the reason is in its log"
)


def why_not_run(workflows: Sequence[Workflow], nodes: object) -> str:
    """Why these workflows do not run on a server that answers `nodes` to `get_nodes`.

    Empty where they do, or where the answer does not tell: a server that cannot list its nodes names none.
    """
    if not isinstance(nodes, dict) or not nodes:
        return ""
    for place, workflow in enumerate(workflows):
        told = _classes(nodes.get(str(place)))
        missing = [name for name, node in workflow.items() if not _runs(node["class_type"], told.get(name))]
        if not missing:
            continue
        if not told or sorted(told.values()) == PASS_THROUGH:
            return FAILED
        name = missing[0]
        return f"the server cannot run node {name!r} of the workflow ({workflow[name]['class_type']})"
    return ""


def _classes(nodes: object) -> dict[str, str]:
    """The class of each node by its id."""
    if not isinstance(nodes, dict):
        return {}
    return {name: str(node.get("class_type")) for name, node in nodes.items() if isinstance(node, dict)}


def _runs(wanted: str, told: str | None) -> bool:
    return told is not None and told in (wanted, CONVERTED.get(wanted))
