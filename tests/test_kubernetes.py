"""The Kubernetes manifests: valid by the schemas of its releases; flags and ports fit together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.settings import Settings, read_flags, settings_from

ROOT = Path(__file__).parents[1]
PARTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((ROOT / "config" / "kubernetes" / "gateway.yaml").read_text())
)
BY_KIND = {part["kind"]: part for part in PARTS}
POD = BY_KIND["StatefulSet"]["spec"]["template"]["spec"]
(GATEWAY,) = POD["containers"]
SECRETS = {"cluster": "nats://nats:4222", "ledger": "postgresql://gateway:secret@postgres/ledger"}
LONGEST_SETTLING = 30
"""Seconds from the end of the last stream to the process's end, at the most."""


@pytest.mark.parametrize("release", ["1.31", "1.33"])
def test_they_are_valid_and_have_no_field_that_kubernetes_would_ignore(release: str) -> None:
    assert sorted(BY_KIND) == ["ConfigMap", "PodDisruptionBudget", "Service", "StatefulSet"]
    for part in PARTS:
        kubernetes_validate.validate(part, release, strict=True)


def test_a_field_with_a_typo_is_not_valid() -> None:
    wrong = {**BY_KIND["Service"], "spec": {**BY_KIND["Service"]["spec"], "selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


def test_all_parts_mean_the_same_pods() -> None:
    labels = {"app.kubernetes.io/name": "livepeer-gateway"}
    workload = BY_KIND["StatefulSet"]["spec"]
    assert workload["template"]["metadata"]["labels"] == labels
    assert workload["selector"]["matchLabels"] == BY_KIND["Service"]["spec"]["selector"] == labels
    assert BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    volumes = {volume["name"] for volume in POD["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in workload["volumeClaimTemplates"]}
    assert {mount["name"] for mount in GATEWAY["volumeMounts"]} == volumes


def settings(folder: Path) -> Settings:
    """Those of the gateway in the first pod."""
    given: dict[str, str] = {}
    for variable in GATEWAY["env"]:
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            given[variable["name"]] = SECRETS[source["secretKeyRef"]["key"]]
        elif "fieldRef" in source:
            given[variable["name"]] = "livepeer-gateway-0"
        else:
            given[variable["name"]] = variable["value"]
    (folder / "publishTokens").write_text("secret")
    lines = BY_KIND["ConfigMap"]["data"]["gateway.conf"].replace("/secret/", f"{folder}/")
    config = folder / "gateway.conf"
    config.write_text(re.sub(r"^#(\w)", r"\1", lines, flags=re.MULTILINE))
    assert GATEWAY["args"] == ["-config", "/config/gateway.conf"]
    parsed = read_flags(["-config", str(config)], {**given, "LP_DATADIR": str(folder)})
    assert not parsed.warnings
    return settings_from(parsed)


def test_its_flags_are_taken_and_its_ports_and_times_are_those_of_the_pod(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    assert chosen.cluster is not None
    assert chosen.cluster.node_name == "livepeer-gateway-0"
    ports = {port["name"]: (port["hostPort"], port["protocol"]) for port in GATEWAY["ports"]}
    assert ports == {"http": (chosen.http.http_addr[1], "TCP"), "media": (chosen.ice.mux_port, "UDP")}
    assert BY_KIND["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    probes = {name: GATEWAY[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert [probe["path"] for probe in probes.values()] == ["/healthz", "/healthz", "/readyz"]
    assert {probe["port"] for probe in probes.values()} == {"http"}
    grace = POD["terminationGracePeriodSeconds"]
    assert grace > chosen.stream.drain_timeout + LONGEST_SETTLING


def test_the_pod_has_no_rights_and_the_image_s_user() -> None:
    user = int(re.findall(r"^USER (\d+):", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0])
    pod, container = POD["securityContext"], GATEWAY["securityContext"]
    assert pod["runAsNonRoot"]
    assert (pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]) == (user, user, user)
    assert container["readOnlyRootFilesystem"]
    assert not container["allowPrivilegeEscalation"]
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert not POD["automountServiceAccountToken"]
    written = {mount["mountPath"] for mount in GATEWAY["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/data", "/tmp"}
