"""KEDA's objects: scaling of the consumer within the partitions, and KEDA's access to the broker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from k8s.check.environment import variables
from k8s.check.manifests import Body, Container, Rendering, Resource
from k8s.check.references import Problem, keys_of, listed

_WITH_PASSWORD = {"SCRAM-SHA-512": "scram_sha512", "SCRAM-SHA-256": "scram_sha256", "PLAIN": "plaintext"}
_MECHANISMS = {**_WITH_PASSWORD, "AWS_MSK_IAM": "aws_msk_iam"}


def check_scaling(rendering: Rendering) -> Iterator[Problem]:
    """The scaled workload and its triggers."""
    for scaled in rendering.of_kind("ScaledObject"):
        reference = scaled.spec["scaleTargetRef"]
        target = rendering.find(reference.get("kind", "Deployment"), reference["name"])
        container = _container(target, reference.get("envSourceContainerName"))
        if target is None or container is None:
            yield scaled, f"scaleTargetRef: there is no {reference} with such a container"
            continue
        if "replicas" in target.spec:
            yield (
                target,
                f"has replicas, which each apply would set in conflict with {scaled.kind}/{scaled.name}",
            )
        given = variables(rendering, container)
        yield from _bounds(scaled, given)
        for trigger in scaled.spec["triggers"]:
            yield from _trigger_problems(rendering, scaled, trigger, given)


def _container(target: Resource | None, name: str | None) -> Container | None:
    if target is None or target.pod is None:
        return None
    return next((each for each in target.pod.containers if name in (None, each.name)), None)


def _bounds(scaled: Resource, given: Mapping[str, str]) -> Iterator[Problem]:
    partitions = int(given.get("LAKEFEED_TOPIC_PARTITIONS", "1"))
    if scaled.spec.get("maxReplicaCount", 100) > partitions:
        yield (
            scaled,
            (
                f"maxReplicaCount is {scaled.spec.get('maxReplicaCount', 'unset')}, and "
                f"LAKEFEED_TOPIC_PARTITIONS {partitions}: more consumers than partitions would be idle"
            ),
        )
    if scaled.spec.get("minReplicaCount", 0) < 1:
        yield scaled, "minReplicaCount is 0: the lag would not be reported, and LakefeedNoConsumer would fire"


def _trigger_problems(
    rendering: Rendering, scaled: Resource, trigger: Body, given: Mapping[str, str]
) -> Iterator[Problem]:
    metadata = trigger["metadata"]
    for key, variable in metadata.items():
        if key.endswith("FromEnv") and variable not in given:
            yield scaled, f"{key}: the container has no variable {variable}"
    if metadata.get("allowIdleConsumers", "false") != "false":
        yield scaled, "allowIdleConsumers is on: there would be more consumers than partitions"
    name = trigger.get("authenticationRef", {}).get("name")
    authentication = rendering.find("TriggerAuthentication", name) if name else None
    if name and authentication is None:
        yield scaled, f"authenticationRef: there is no TriggerAuthentication {name}"
    shown = {each["parameter"] for each in _references(authentication)}
    yield from ((scaled, message) for message in _unlike(metadata, shown, given))


def _references(authentication: Resource | None) -> list[Body]:
    return authentication.spec.get("secretTargetRef", []) if authentication else []


def _unlike(metadata: Body, shown: set[str], given: Mapping[str, str]) -> Iterator[str]:
    """Differences between KEDA's and the consumer's access to the broker."""
    protocol = given.get("LAKEFEED_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    mechanism = given.get("LAKEFEED_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    tls = "enable" if protocol.endswith("SSL") else "disable"
    sasl = _MECHANISMS.get(mechanism, mechanism) if protocol.startswith("SASL") else "none"
    for key, wanted, default in (("tls", tls, "disable"), ("sasl", sasl, "none")):
        if metadata.get(key, default) != wanted:
            yield f"the consumer has {protocol}: {key} must be {wanted} here"
    if sasl == "aws_msk_iam" and metadata.get("awsRegion") != given.get("AWS_REGION"):
        yield f"awsRegion is {metadata.get('awsRegion')}, but AWS_REGION {given.get('AWS_REGION')}"
    expected = {"username", "password"} if sasl in _WITH_PASSWORD.values() else set()
    files = {"ca": "CA", "cert": "CERTIFICATE", "key": "KEY"}
    expected |= {key for key, name in files.items() if given.get(f"LAKEFEED_KAFKA_SSL_{name}_FILE")}
    if shown != expected:
        yield f"the consumer authenticates with {listed(expected)}, but KEDA with {listed(shown)}"


def check_trigger_secrets(rendering: Rendering, given: Mapping[str, frozenset[str]]) -> Iterator[Problem]:
    """The keys that KEDA reads exist in their Secrets."""
    for authentication in rendering.of_kind("TriggerAuthentication"):
        for each in _references(authentication):
            keys = keys_of(rendering, "Secret", each["name"], given)
            if keys is None or each["key"] not in keys:
                yield authentication, f"{each['parameter']}: no Secret {each['name']} has a key {each['key']}"
