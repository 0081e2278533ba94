"""The dashboard and the alert rules use metrics that the gateway has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from gateway.reason import EndReason
from harness.dashboards import ALERTS, DASHBOARD, metrics_named


def test_every_panel_has_its_own_place_and_a_word_of_explanation() -> None:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels) > 10
    assert all(panel["title"] and panel["description"].endswith(".") for panel in panels)
    assert all('instance=~"$instance"' in target["expr"] for panel in panels for target in panel["targets"])


def test_every_alert_says_how_urgent_it_is_and_what_is_wrong() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert metrics_named(rule["expr"]) or rule["expr"].startswith("up{")


def test_the_reasons_that_alerts_look_for_are_reasons() -> None:
    looked_for = re.findall(r'reason=~"([^"]+)"', ALERTS.read_text())
    assert len(looked_for) == 2
    assert {reason for some in looked_for for reason in some.split("|")} <= {str(one) for one in EndReason}


def test_pages_that_are_named_are_there() -> None:
    root = Path(__file__).parents[2]
    assert all((root / page).is_file() for page in re.findall(r"docs/[\w-]+\.md", ALERTS.read_text()))
