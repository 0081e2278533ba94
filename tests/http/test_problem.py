from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.http.problem import ProblemCode

GATEWAY = Path(__file__).parents[2] / "gateway"
RAISED_BELOW = re.compile(r"\b(?:OfferRefused|NotAdmitted|UpdateRefused)\(\s*\"(\w+)\"")


@pytest.mark.parametrize("folder", ["stream", "webrtc", "network", "comfystream"])
def test_codes_of_other_parts_are_codes_of_problems(folder: str) -> None:
    raised = {
        code for path in (GATEWAY / folder).glob("*.py") for code in RAISED_BELOW.findall(path.read_text())
    }
    assert raised
    assert raised <= {str(code) for code in ProblemCode}
