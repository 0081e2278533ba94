from __future__ import annotations

from fractions import Fraction

from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import KINDS, Metrics, Snapshot, StreamSample, Totals
from gateway.telemetry.node_metrics import together


def metrics_of(node: str, stream: str) -> Metrics:
    metrics = Metrics(node)
    sample = StreamSample(stream, 1.5, None, 30.0, None)
    metrics.attach(lambda: Snapshot([sample], 2, Totals(tickets=3, credited_wei=Fraction(7, 2))))
    metrics.starts.labels("created").inc()
    metrics.first_frame_seconds.observe(0.7)
    return metrics


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_without_a_cluster_there_is_no_label() -> None:
    assert b"node=" not in metrics_of("", "cam").render()


def test_jobs_are_told_apart_by_their_kind() -> None:
    metrics = Metrics()
    kinds = ("runner", None, "job", "runner")
    streams = [StreamSample(f"{number}", None, None, None, None, kind) for number, kind in enumerate(kinds)]
    metrics.attach(lambda: Snapshot(streams, 0, Totals()))
    told = samples(metrics.render())
    assert [told["livepeer_jobs", (("kind", kind),)] for kind in KINDS] == [1, 2, 0]


def test_each_sample_of_a_node_says_so() -> None:
    told, plain = samples(metrics_of("a:1", "cam").render()), samples(metrics_of("", "cam").render())
    without = {(name, tuple(one for one in labels if one[0] != "node")) for name, labels in told}
    assert without == set(plain)
    assert all(("node", "a:1") in labels for _, labels in told)


def test_several_nodes_are_one_text_with_each_metric_described_once() -> None:
    texts = [metrics_of(node, stream).render() for node, stream in (("a", "one"), ("b", "two"))]
    whole = together(texts)
    assert whole.count(b"# TYPE livepeer_tickets_total counter") == 1
    assert whole.count(b"# TYPE livepeer_first_frame_seconds histogram") == 1
    assert samples(whole) == samples(texts[0]) | samples(texts[1])
