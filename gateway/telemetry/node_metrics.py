"""Metrics of many nodes in one text: each sample says which node it is of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry
from typing_extensions import override

LABEL = "node"


class OfNode(Collector):
    """All metrics of a registry, with the label `node`."""

    def __init__(self, registry: CollectorRegistry, node: str) -> None:
        self._registry = registry
        self._node = node

    @override
    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            labelled = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            labelled.samples = [
                sample._replace(labels={**sample.labels, LABEL: self._node}) for sample in metric.samples
            ]
            yield labelled


def of_node(registry: CollectorRegistry, node: str) -> bytes:
    """The text of a registry's metrics, with the label `node`."""
    return _text(OfNode(registry, node))


def together(texts: Iterable[bytes]) -> bytes:
    """The metrics of several texts in one: each is described once. Raises ValueError."""
    families: dict[str, Metric] = {}
    for text in texts:
        for metric in text_string_to_metric_families(text.decode()):
            known = families.setdefault(metric.name, metric)
            if known is not metric:
                known.samples += metric.samples
    return _text(_Families(families.values()))


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    @override
    def collect(self) -> Iterable[Metric]:
        return self._families


def _text(collector: Collector) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)
