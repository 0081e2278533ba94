"""What a server's answer to get_nodes says of a workflow, as ComfyStream 0.1.8 answers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.comfystream.nodes import FAILED, why_not_run
from gateway.devnet.comfystream.pipeline import PASS_THROUGH


def flow(*classes: str) -> dict[str, Any]:
    return {str(place): {"class_type": name, "inputs": {}} for place, name in enumerate(classes)}


def told(*flows: dict[str, Any]) -> dict[str, Any]:
    return {str(place): workflow for place, workflow in enumerate(flows)}


DEPTH = flow("LoadImage", "DepthAnything", "PreviewImage")
CONVERTED = flow("LoadTensor", "DepthAnything", "SaveTensor")


@pytest.mark.parametrize(
    ("workflows", "nodes", "why_not"),
    [
        ([DEPTH], told(CONVERTED), ""),
        (
            [flow("LoadImage", "LoadImage", "SaveImage")],
            told(flow("LoadImage", "LoadImage", "SaveTensor")),
            "",
        ),
        ([DEPTH, DEPTH], told(CONVERTED, CONVERTED), ""),
        ([PASS_THROUGH], told(PASS_THROUGH), ""),
        ([DEPTH], told(PASS_THROUGH), FAILED),
        ([DEPTH, DEPTH], told(PASS_THROUGH), FAILED),
        ([PASS_THROUGH, DEPTH], told(PASS_THROUGH), FAILED),
        ([DEPTH], {"0": {"0": CONVERTED["0"], "2": CONVERTED["2"]}}, FAILED),
        (
            [flow("LoadImage", "Unknown", "Known", "PreviewImage")],
            {"0": {"0": {"class_type": "LoadTensor"}, "2": {"class_type": "Known"}}},
            "the server cannot run node '1' of the workflow (Unknown)",
        ),
        ([DEPTH], {"0": [], "x": None}, FAILED),
        # an answer that says nothing
        ([DEPTH], {}, ""),
        ([DEPTH], None, ""),
        ([DEPTH], [CONVERTED], ""),
    ],
)
def test_a_workflow_that_the_server_does_not_run_is_found_by_its_nodes(
    workflows: list[dict[str, Any]], nodes: object, why_not: str
) -> None:
    assert why_not_run(workflows, nodes) == why_not
