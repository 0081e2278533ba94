"""The dashboard and the alert rules use metrics that the gateway has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.candidates.trust import Trust
from gateway.reason import EndReason
from gateway.telemetry.events import EventHub
from gateway.telemetry.lag import LoopWatch
from gateway.telemetry.metrics import (
    MAX_CUSTOMERS,
    OTHERS,
    Metrics,
    RelayCounts,
    Snapshot,
    StreamSample,
    Totals,
)
from harness.dashboards import ALERTS, DASHBOARD, metrics_named, metrics_served

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_every_panel_has_its_own_place_and_a_word_of_explanation() -> None:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels) > 10
    assert all(panel["title"] and panel["description"].endswith(".") for panel in panels)
    assert all('instance=~"$instance"' in target["expr"] for panel in panels for target in panel["targets"])


def test_every_metric_that_they_name_is_served() -> None:
    metrics = Metrics("a")
    nobody = StreamSample("cam", 1.0, 1.0, 30.0, 1.0)
    metrics.attach(lambda: Snapshot([nobody], 0, Totals()))
    metrics.watch(LoopWatch())
    metrics.attach_events(EventHub())
    metrics.attach_trust(Trust().count)
    metrics.attach_relay(lambda: RelayCounts(0, 0))
    known = ("deposit_wei", "reserve_wei", "hours_left", "age_s", "refusal", "warning")
    metrics.attach_chain(lambda: dict.fromkeys(known, 1))
    served = metrics_served(metrics.render().decode())
    assert metrics_named(DASHBOARD.read_text() + ALERTS.read_text()) <= served
    told = set(re.findall(r"`(livepeer_\w+)`", OPERATIONS.read_text()))
    assert {name for name in served if not name.endswith(("_bucket", "_created"))} == told


def test_customers_beyond_the_first_hundred_are_together() -> None:
    metrics = Metrics()
    names = [f"c{number:03}" for number in range(MAX_CUSTOMERS + 50)]
    streams = [
        StreamSample(name, None, None, None, None, None, name, Fraction(place))
        for place, name in enumerate(names)
    ]
    metrics.attach(lambda: Snapshot([*streams, streams[-1]], 0, Totals()))
    text = metrics.render().decode()
    rows = dict(re.findall(r'^livepeer_customer_cost_wei\{customer="([^"]*)"\} (\S+)', text, re.MULTILINE))
    assert len(rows) == MAX_CUSTOMERS + 1
    assert float(rows["c149"]) == 2 * 149
    assert float(rows[OTHERS]) == sum(range(50))


def test_promtool_takes_the_rules_and_the_panels_queries(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("Debian's prometheus is not installed")
    queries = [
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]
    ]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    panels = tmp_path / "panels.yml"
    panels.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    command = [promtool, "check", "rules", ALERTS, panels]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr


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
