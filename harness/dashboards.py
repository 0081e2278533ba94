"""The operator's dashboard and alert rules, and the metrics that they name."""

from __future__ import annotations

import re
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "config"
DASHBOARD = CONFIG / "grafana-dashboard.json"
ALERTS = CONFIG / "prometheus-alerts.yml"


def metrics_named(text: str) -> set[str]:
    return set(re.findall(r"\blivepeer_\w+", text))


def metrics_served(exposition: str) -> set[str]:
    """Every metric in Prometheus' text format, those that have no sample yet among them."""
    families = dict(re.findall(r"^# TYPE (\w+) (\w+)$", exposition, re.MULTILINE))
    buckets = {f"{name}_bucket" for name, kind in families.items() if kind == "histogram"}
    return families.keys() | buckets
