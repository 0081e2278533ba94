from __future__ import annotations

import pytest

from tests.link.network import run_inside


@pytest.mark.alone  # four streams are coded and decoded on this machine, which takes most of its CPU
@pytest.mark.parametrize("seconds", [6, pytest.param(20, marks=pytest.mark.long)])
def test_pictures_survive_loss_jitter_reordering_a_narrow_link_and_a_wrap(seconds: int) -> None:
    run_inside("tests.link.lossy", str(seconds), timeout=150)


@pytest.mark.long
def test_chromium_adapts_to_a_narrow_link_and_outlives_a_broken_one() -> None:
    run_inside("tests.link.browser", timeout=150)
