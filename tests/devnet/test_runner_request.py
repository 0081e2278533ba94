"""The ai-runner's job request, read from JSON."""

from __future__ import annotations

import pytest

from gateway.devnet.runner.request import BadRunnerRequest, RunnerRequest, chosen_effect

BODY = {
    "model_id": "comfystream",
    "params": {"effect": "grey", "prompt": {"1": {}}},
    "subscribe_url": "https://127.0.0.1:8935/ai/trickle/ab",
    "publish_url": "https://127.0.0.1:8935/ai/trickle/ab-out",
    "control_url": "https://127.0.0.1:8935/ai/trickle/ab-control",
    "events_url": "https://127.0.0.1:8935/ai/trickle/ab-events",
    "gateway_request_id": "r",
    "manifest_id": "ab",
    "stream_id": "s",
}


def test_every_field_of_the_protocol_is_read() -> None:
    assert RunnerRequest.from_json(BODY) == RunnerRequest(**BODY)  # type: ignore[arg-type]


def test_nulls_and_absent_fields_are_the_same() -> None:
    bare = {"subscribe_url": BODY["subscribe_url"], "publish_url": BODY["publish_url"]}
    nulls = dict.fromkeys(BODY) | bare
    assert RunnerRequest.from_json(nulls) == RunnerRequest.from_json(bare)


@pytest.mark.parametrize("effect", ["sepia", 1, ["grey"], {"effect": "grey"}, ""])
def test_an_effect_is_one_of_the_four_names(effect: object) -> None:
    with pytest.raises(BadRunnerRequest, match="negative, mirror, grey, none"):
        chosen_effect({"effect": effect})


def test_no_word_of_an_effect_leaves_it_as_it_is() -> None:
    assert chosen_effect({"keep": "alive"}) is None
