"""The Kubernetes manifests: valid for Kubernetes' own schemas, and confined like containers."""

from __future__ import annotations

import copy
import re
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tests.unit.deploy.monitoring import ROOT

FOLDER: Final = ROOT / "deploy" / "kubernetes"
DOCUMENTS: Final = [
    document
    for file in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]
VERSIONS: Final = ("1.30.0", "1.37.0")
"""The oldest release that the manifests are for, and the newest whose schemas are here."""


def names(document: Any) -> str:
    """Return kind and name."""
    return f"{document['kind']}/{document['metadata']['name']}"


def find(kind: str, name: str) -> Any:
    """Return one manifest."""
    (found,) = (one for one in DOCUMENTS if names(one) == f"{kind}/{name}")
    return found


STATEFUL_SET: Final = find("StatefulSet", "mbi-node")
TEMPLATE: Final = STATEFUL_SET["spec"]["template"]
POD: Final = TEMPLATE["spec"]
JOB_POD: Final = find("Job", "init-mbi-node-0")["spec"]["template"]["spec"]
COMPOSE: Final = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_manifest_fits_the_schema_of_kubernetes(document: Any, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_an_unknown_field_is_noticed() -> None:
    broken = copy.deepcopy(STATEFUL_SET)
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("pod", [POD, JOB_POD], ids=["node", "init"])
def test_pod_is_confined_like_the_containers_of_compose(pod: Any) -> None:
    """O1: user, root file system, capabilities and memory are those of the compose file."""
    assert COMPOSE["x-hardened"]["cap_drop"] == ["ALL"]
    context = pod["securityContext"]
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert not container["image"].endswith(":latest")
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_node_has_the_memory_and_the_time_to_stop_of_compose() -> None:
    (node,) = POD["containers"]
    assert node["resources"]["limits"]["memory"] == "1Gi"
    assert COMPOSE["x-hardened"]["mem_limit"] == "1g"
    assert f"{POD['terminationGracePeriodSeconds']}s" == COMPOSE["x-node"]["stop_grace_period"]


def test_only_traffic_waits_for_a_quorum() -> None:
    """C14: a node without a quorum gets no requests, but is neither restarted nor cut off."""
    (node,) = POD["containers"]
    assert node["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert node["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert node["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert STATEFUL_SET["spec"]["podManagementPolicy"] == "Parallel"
    for name in ("mbi-node", "mbi-node-0-p2p", "mbi-node-1-p2p"):
        assert find("Service", name)["spec"]["publishNotReadyAddresses"] is True
    assert "publishNotReadyAddresses" not in find("Service", "mbi-http")["spec"]


def test_selectors_find_the_pods() -> None:
    labels = TEMPLATE["metadata"]["labels"]
    headless = find("Service", "mbi-node")["spec"]
    assert headless["clusterIP"] == "None"
    assert STATEFUL_SET["spec"]["serviceName"] == "mbi-node"
    for selector in (
        headless["selector"],
        find("Service", "mbi-http")["spec"]["selector"],
        find("PodDisruptionBudget", "mbi-node")["spec"]["selector"]["matchLabels"],
        find("NetworkPolicy", "mbi-node")["spec"]["podSelector"]["matchLabels"],
        STATEFUL_SET["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    assert find("PodDisruptionBudget", "mbi-node")["spec"]["maxUnavailable"] == 1


def test_http_is_for_labelled_clients_only() -> None:
    """O2: whatever carries no label reaches neither the interface nor the metrics."""
    policy = find("NetworkPolicy", "mbi-node")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (to_http,) = (rule for rule in policy["ingress"] if rule["ports"][0]["port"] == "http")
    assert [set(peer) for peer in to_http["from"]] == [{"namespaceSelector", "podSelector"}]
    assert to_http["from"][0]["podSelector"]["matchLabels"]
    assert all(rule.get("from") for rule in policy["ingress"])
    assert all(rule.get("to") for rule in policy["egress"])


def test_secrets_are_named_and_never_written_down() -> None:
    """K1: no manifest carries a key; each node sees its own part only."""
    assert {document["kind"] for document in DOCUMENTS}.isdisjoint({"Secret", "ConfigMap"})
    own = next(volume for volume in POD["volumes"] if volume["name"] == "own")
    for source in own["projected"]["sources"]:
        (reference,) = source.values()
        paths = {item["path"].split("/")[0] for item in reference["items"]}
        assert paths == {reference["name"]}
    replicas = {f"mbi-node-{number}" for number in range(STATEFUL_SET["spec"]["replicas"])}
    assert {next(iter(s.values()))["name"] for s in own["projected"]["sources"]} == replicas
    mounts = POD["initContainers"][0]["volumeMounts"]
    assert next(mount for mount in mounts if mount["name"] == "own")["subPathExpr"] == "$(POD_NAME)"
    assert "own" not in {mount["name"] for mount in POD["containers"][0]["volumeMounts"]}


def test_database_is_made_by_the_job_only() -> None:
    """A node that lost its disk must not come back as a new one that has forgotten its votes."""
    assert "mbi node init" in JOB_POD["containers"][0]["args"][0]
    assert not any("init --home" in str(c) for c in (*POD["initContainers"], *POD["containers"]))
    (template,) = STATEFUL_SET["spec"]["volumeClaimTemplates"]
    claim = find("PersistentVolumeClaim", f"{template['metadata']['name']}-mbi-node-0")
    assert claim["spec"] == template["spec"]
