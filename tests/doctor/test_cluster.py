"""What the doctor finds about NATS, at a real nats-server."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cluster.settings import ClusterSettings, Credentials
from gateway.doctor.cluster import cluster_findings
from gateway.doctor.finding import Level
from harness.nats import NatsServer, free_port, nats_server

pytestmark = [pytest.mark.asyncio, pytest.mark.heavy]

ACCOUNT = """
    {user: full, password: p, permissions: {
      publish: ["livepeer.>", "$KV.livepeer-nodes.>", "$KV.livepeer-names.>", "$KV.livepeer-counts.>",
        "$JS.API.STREAM.*.KV_livepeer-nodes", "$JS.API.STREAM.*.KV_livepeer-names",
        "$JS.API.STREAM.*.KV_livepeer-counts", "$JS.API.STREAM.MSG.*.KV_livepeer-counts",
        "$JS.API.STREAM.MSG.*.KV_livepeer-nodes", "$JS.API.STREAM.MSG.*.KV_livepeer-names"],
      subscribe: ["livepeer.>", "$KV.livepeer-nodes.>"]}}
    {user: uncounted, password: p, permissions: {
      publish: ["livepeer.>", "$KV.livepeer-nodes.>", "$KV.livepeer-names.>",
        "$JS.API.STREAM.*.KV_livepeer-nodes", "$JS.API.STREAM.*.KV_livepeer-names",
        "$JS.API.STREAM.MSG.*.KV_livepeer-nodes", "$JS.API.STREAM.MSG.*.KV_livepeer-names"],
      subscribe: ["livepeer.>", "$KV.livepeer-nodes.>"]}}
    {user: poor, password: p, permissions: {publish: ["livepeer.>"], subscribe: ["livepeer.>"]}}
    {user: none, password: p, permissions: {publish: ["other.>"], subscribe: ["other.>", "livepeer.inbox.>"]}}
"""
"""The first one may do what docs/cluster.md names, and no more."""


def settings(server: NatsServer, user: str) -> ClusterSettings:
    login = Credentials(user=user, password="p")
    return ClusterSettings((server.url,), "livepeer", "me", login, reuse_port=False)


async def test_what_the_documents_name_is_enough_and_less_is_told(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text(f"authorization {{ users: [{ACCOUNT}] }}")
    with nats_server("--config", str(config)) as server:
        findings = await cluster_findings(settings(server, "full"))
        assert [(one.name, one.level) for one in findings] == [
            ("messages", Level.OK),
            ("nodes", Level.OK),
            ("names", Level.OK),
            ("counts", Level.OK),
            ("nodes present", Level.OK),
        ], findings
        findings = await cluster_findings(settings(server, "uncounted"))
        assert {one.name: one.level for one in findings} == {
            "messages": Level.OK,
            "nodes": Level.OK,
            "names": Level.OK,
            "counts": Level.FAULT,
        }, findings
        messages, nodes, *others = await cluster_findings(settings(server, "poor"))
        assert messages.level is Level.OK
        assert {one.level for one in (nodes, *others)} == {Level.FAULT}
        assert "permissions violation" in nodes.detail.lower()
        messages, *_ = await cluster_findings(settings(server, "none"))
        assert messages.level is Level.FAULT
        (refused,) = await cluster_findings(settings(server, "nobody"))
        assert refused.level is Level.FAULT
        assert "authorization" in refused.detail.lower()


async def test_a_server_that_is_away_is_a_fault_with_advice() -> None:
    away = f"nats://127.0.0.1:{free_port()}"
    chosen = ClusterSettings((away,), "livepeer", "me", Credentials(), reuse_port=False)
    (finding,) = await cluster_findings(chosen, wait=0.5)
    assert (finding.part, finding.level) == ("NATS", Level.FAULT)
    assert "-cluster" in finding.advice
