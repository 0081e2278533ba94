from __future__ import annotations

import pytest

from tests.link.network import run_inside


def test_the_picture_survives_a_lossy_link() -> None:
    run_inside("tests.link.lossy", "0.03", "5", timeout=60)


@pytest.mark.long
def test_chromium_adapts_to_a_narrow_link_and_outlives_a_broken_one() -> None:
    run_inside("tests.link.browser", timeout=150)


@pytest.mark.long
@pytest.mark.parametrize("loss", [0.01, 0.03, 0.05])
def test_the_picture_survives_loss_for_long(loss: float) -> None:
    run_inside("tests.link.lossy", str(loss), "20", timeout=90)
