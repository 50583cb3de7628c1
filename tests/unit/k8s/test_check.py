"""Each check notices what is wrong, and names the file and the resource."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from k8s.check import references, render, schemas
from k8s.check.checks import check, check_schemas
from lakefeed_common.errors import LakefeedError
from tests.helpers.manifests import Bodies, container, good, rendering, said

GIVEN = {"lakefeed-kafka": frozenset({"username", "password"})}


def pod(bodies: Bodies) -> dict[str, object]:
    spec: dict[str, object] = bodies["Deployment"]["spec"]["template"]["spec"]
    return spec


def test_nothing_is_wrong_where_all_is_well() -> None:
    assert said(check([rendering(good())], GIVEN)) == []
    # Custom resources have their place in tests/integration/test_k8s_schemas.py: their models load slowly.
    own = {kind: body for kind, body in good().items() if body["apiVersion"] not in schemas.CUSTOM}
    assert said(check_schemas([rendering(own)])) == []


def test_the_three_newest_versions_of_kubernetes_are_asked() -> None:
    minors = [int(version.split(".")[1]) for version in schemas.VERSIONS]
    assert minors == list(range(minors[-1] - 2, minors[-1] + 1))


@pytest.mark.parametrize(
    ("change", "resource", "message"),
    [
        # References.
        (
            lambda b: container(b)["env"][1]["valueFrom"]["secretKeyRef"].update(key="user"),
            "Deployment/consumer",
            "container consumer: variable LAKEFEED_KAFKA_SASL_USERNAME: Secret lakefeed-kafka has no key "
            "user, only password, username",
        ),
        (
            lambda b: container(b)["envFrom"][0]["configMapRef"].update(name="setings"),
            "Deployment/consumer",
            "container consumer: there is no ConfigMap setings",
        ),
        (
            lambda b: pod(b).update(serviceAccountName="consumr"),
            "Deployment/consumer",
            "serviceAccountName: there is no ServiceAccount consumr",
        ),
        (
            lambda b: container(b)["volumeMounts"].append({"name": "state", "mountPath": "/state"}),
            "Deployment/consumer",
            "container consumer mounts state, which is not a volume",
        ),
        (
            lambda b: container(b)["volumeMounts"].clear(),
            "Deployment/consumer",
            "volume tmp is not mounted",
        ),
        (
            lambda b: container(b)["readinessProbe"]["httpGet"].update(port="web"),
            "Deployment/consumer",
            "container consumer: readinessProbe: the container has no port web",
        ),
        (
            lambda b: container(b)["readinessProbe"]["httpGet"].update(path="/ready"),
            "Deployment/consumer",
            "container consumer: readinessProbe: lakefeed-consumer:1.2.3 does not serve /ready",
        ),
        (
            lambda b: container(b).pop("livenessProbe"),
            "Deployment/consumer",
            "container consumer has no livenessProbe",
        ),
        (
            lambda b: b["Service"]["spec"]["ports"][0].update(targetPort="web"),
            "Service/consumer",
            "port web targets Deployment/consumer (k8s/x.yaml), which has 8002, http",
        ),
        (
            lambda b: b["Service"]["spec"].update(selector={"app": "consumer"}),
            "Service/consumer",
            "its selector app=consumer selects no pod",
        ),
        (
            lambda b: b["Deployment"]["spec"]["selector"].update(matchLabels={"app": "consumer"}),
            "Deployment/consumer",
            "its selector app=consumer does not select its own pods",
        ),
        (
            lambda b: container(b).update(image="apache/kafka:3.9.2"),
            "Deployment/consumer",
            "container consumer: image apache/kafka:3.9.2, but docker-compose.yml has apache/kafka:3.9.1",
        ),
        (
            lambda b: container(b).update(image="lakefeed-consumer:latest"),
            "Deployment/consumer",
            "container consumer: image lakefeed-consumer:latest has no fixed tag",
        ),
        (
            lambda b: b["ServiceAccount"]["metadata"].pop("namespace"),
            "ServiceAccount/consumer",
            "has no namespace, and would be created in that of the context",
        ),
        # Environment.
        (
            lambda b: container(b)["env"].append({"name": "LAKEFEED_TOPICC", "value": "x"}),
            "Deployment/consumer",
            "container consumer: LAKEFEED_TOPICC is not a setting of consumer",
        ),
        (
            lambda b: container(b)["env"].append({"name": "LAKEFEED_RATE", "value": "1"}),
            "Deployment/consumer",
            "container consumer: LAKEFEED_RATE is not a setting of consumer",
        ),
        (
            lambda b: b["ConfigMap"]["data"].update(LAKEFEED_BUCKETT="x"),
            "ConfigMap/settings",
            "LAKEFEED_BUCKETT is not a setting of any component",
        ),
        (
            lambda b: b["ConfigMap"]["data"].update(LAKEFEED_TOPIC="a b"),
            "Deployment/consumer",
            "container consumer: it would not start: LAKEFEED_TOPIC='a b': string should match pattern "
            "'^[A-Za-z0-9._-]{1,249}$'. Topic of the events.",
        ),
        (
            lambda b: b["ConfigMap"]["data"].update(LAKEFEED_KAFKA_SSL_CA_FILE="/etc/lakefeed/ca.crt"),
            "Deployment/consumer",
            "container consumer: it would not start: LAKEFEED_KAFKA_SSL_CA_FILE=/etc/lakefeed/ca.crt: no "
            "volume is mounted there",
        ),
        (
            lambda b: container(b)["ports"][0].update(containerPort=8001),
            "Deployment/consumer",
            "container consumer: port http is 8001, and consumer listens on 8002",
        ),
        (
            lambda b: pod(b).update(terminationGracePeriodSeconds=20),
            "Deployment/consumer",
            "terminationGracePeriodSeconds 20 for a drain of 25 s: it would be killed while it is storing",
        ),
        # Security.
        (
            lambda b: container(b)["securityContext"].update(privileged=True),
            "Deployment/consumer",
            "container consumer: privileged",
        ),
        (
            lambda b: container(b)["securityContext"].update(readOnlyRootFilesystem=False),
            "Deployment/consumer",
            "container consumer: readOnlyRootFilesystem is not true",
        ),
        (lambda b: pod(b).update(hostNetwork=True), "Deployment/consumer", "hostNetwork is on"),
        (
            lambda b: pod(b).update(automountServiceAccountToken=True),
            "Deployment/consumer",
            "automountServiceAccountToken is not false: it would have a token for the cluster's API",
        ),
        (
            lambda b: container(b)["ports"][0].update(hostPort=8002),
            "Deployment/consumer",
            "container consumer: hostPort 8002: it uses a port of the node",
        ),
        (
            lambda b: b.update(
                Role={
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "Role",
                    "metadata": {"name": "consumer", "namespace": "lakefeed"},
                    "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}],
                }
            ),
            "Role/consumer",
            "verbs are *: it also allows all future ones",
        ),
        (
            lambda b: container(b)["resources"]["limits"].pop("memory"),
            "Deployment/consumer",
            "container consumer: has no limits for memory",
        ),
        # Network policies.
        (
            lambda b: b.pop("NetworkPolicy"),
            "Deployment/consumer",
            "no NetworkPolicy selects its pods: they may connect to everything",
        ),
        (
            lambda b: b["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0].update(port="web"),
            "NetworkPolicy/consumer",
            "port web is not a port of the selected pods: 8002, http",
        ),
        (
            lambda b: b["NetworkPolicy"]["spec"].update(podSelector={"matchLabels": {"app": "x"}}),
            "NetworkPolicy/consumer",
            "its podSelector selects no pod of any rendering",
        ),
        (
            lambda b: b["NetworkPolicy"]["spec"]["egress"][0]["to"][0].update(
                podSelector={"matchLabels": {"app": "x"}}
            ),
            "NetworkPolicy/consumer",
            "the peer {'matchLabels': {'app': 'x'}} is not a pod of any rendering",
        ),
        # Scaling and monitoring.
        (
            lambda b: b["ScaledObject"]["spec"].update(maxReplicaCount=4),
            "ScaledObject/consumer",
            "maxReplicaCount is 4, and LAKEFEED_TOPIC_PARTITIONS 3: more consumers than partitions "
            "would be idle",
        ),
        (
            lambda b: b["Deployment"]["spec"].update(replicas=2),
            "Deployment/consumer",
            "has replicas, which each apply would set in conflict with ScaledObject/consumer",
        ),
        (
            lambda b: b["ScaledObject"]["spec"]["triggers"][0]["metadata"].pop("sasl"),
            "ScaledObject/consumer",
            "the consumer has SASL_SSL: sasl must be scram_sha512 here",
        ),
        (
            lambda b: b["TriggerAuthentication"]["spec"]["secretTargetRef"].pop(),
            "ScaledObject/consumer",
            "the consumer authenticates with password, username, but KEDA with username",
        ),
        (
            lambda b: b["PodMonitor"]["spec"]["podMetricsEndpoints"][0].update(port="metrics"),
            "PodMonitor/consumer",
            "Deployment/consumer (k8s/x.yaml) has no port metrics",
        ),
    ],
)
def test_what_is_wrong_is_said(change: Callable[[Bodies], object], resource: str, message: str) -> None:
    bodies = good()
    change(bodies)
    assert f"overlays/x: {resource} (k8s/x.yaml): {message}" in said(check([rendering(bodies)], GIVEN))


def problems_of_analytics(*arguments: str) -> str:
    bodies = good()
    container(bodies).update(image="lakefeed-analytics:1", args=[*arguments])
    container(bodies)["readinessProbe"]["httpGet"]["path"] = "/v1/tables"
    return "\n".join(said(check([rendering(bodies)], GIVEN)))


def test_a_command_on_iceberg_tables_reads_kafkas_settings_and_has_no_api() -> None:
    found = problems_of_analytics("compact", "--every", "5m")
    assert "is not a setting" not in found
    assert "readinessProbe: lakefeed-analytics:1 does not serve /v1/tables" in found


def test_the_analytics_service_has_an_api_and_does_not_read_kafkas_settings() -> None:
    found = problems_of_analytics()
    assert "LAKEFEED_KAFKA_SECURITY_PROTOCOL is not a setting of analytics" in found
    assert "does not serve" not in found


def schema_says(body: dict[str, Any]) -> list[str]:
    return said(check_schemas([rendering({"": body})]))


def test_a_field_that_kubernetes_does_not_know_is_said_for_each_version() -> None:
    body = good()["Deployment"]
    body["spec"]["replica"] = 2
    lines = schema_says(body)
    for version in schemas.VERSIONS:
        assert any(f"Kubernetes {version}: spec: " in line and "'replica'" in line for line in lines), lines


class Endpoint(BaseModel):
    port: str


class Monitor(BaseModel):
    """A custom resource as models of them are generated."""

    model_config = ConfigDict(alias_generator=to_camel)

    api_version: str
    kind: str
    metadata: dict[str, str]
    job_label: str | None = None
    pod_endpoints: list[Endpoint]


def test_a_field_that_a_custom_resource_does_not_have_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schemas.CUSTOM, "example.org/v2", "models_of_the_test")
    monkeypatch.setitem(sys.modules, "models_of_the_test", SimpleNamespace(Monitor=Monitor))
    body = {
        "apiVersion": "example.org/v2",
        "kind": "Monitor",
        "metadata": {"name": "x"},
        "jobLable": "x",
        "podEndpoints": [{"port": "http", "prot": 1}],
    }
    assert [line.partition("example.org/v2: ")[2] for line in schema_says(body)] == [
        "the whole: Additional properties are not allowed ('jobLable' was unexpected)",
        "podEndpoints.0: Additional properties are not allowed ('prot' was unexpected)",
    ]


def test_a_kind_without_a_schema_is_no_pass() -> None:
    body = good()["ServiceAccount"]
    body["apiVersion"] = "example.org/v1"
    assert all("has no ServiceAccount in example.org/v1" in line for line in schema_says(body))
    assert len(schema_says(body)) == len(schemas.VERSIONS)


def test_secrets_that_people_make_are_those_of_the_commands(tmp_path: Path) -> None:
    file = tmp_path / "kustomization.yaml"
    file.write_text(
        "# kubectl -n lakefeed create secret generic some-thing \\\n"
        "#   --from-literal=user=me --from-file=ca.crt --from-file=key=/dev/stdin\n"
    )
    assert references.given_secrets([file]) == {"some-thing": frozenset({"user", "ca.crt", "key"})}


def test_without_kubectl_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(render.CannotRenderError, match=r"kubectl is not on the PATH.*Install it"):
        render.kubectl()


def test_every_component_is_combined_with_every_other_that_it_may_be_with() -> None:
    chosen = [set(each.components or ()) for each in render.kustomizations() if not each.applied]
    secure = {"tls", "mutual-tls", "sasl", "msk-iam"}
    for one in render.COMPONENTS:
        for other in render.COMPONENTS:
            pair = {one, other}
            apart = len(pair) == 2 and (
                ("kafka" in pair and pair <= {"kafka", *secure}) or ("msk-iam" in pair and pair <= secure)
            )
            assert any({one, other} <= each for each in chosen) is not apart, (one, other)


def test_a_component_without_a_place_in_the_order_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "components" / "other").mkdir(parents=True)
    (tmp_path / "components" / "other" / "kustomization.yaml").touch()
    monkeypatch.setattr(render, "K8S", tmp_path)
    with pytest.raises(LakefeedError, match=r"\['other'\].*COMPONENTS"):
        render.kustomizations()
