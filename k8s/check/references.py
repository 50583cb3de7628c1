"""References in manifests: ConfigMaps, Secrets, accounts, volumes, ports, paths, images, labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from k8s.check import services
from k8s.check.manifests import Body, Container, Pod, Rendering, Resource, selects, volume_sources

Problem = tuple[Resource, str]
_SERVERS = ("Deployment", "StatefulSet", "DaemonSet")
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_CREATE_SECRET = re.compile(
    r"create secret generic (?:-n \S+ |--namespace[ =]\S+ )*([a-z0-9.-]+)((?:\s+--\S+)+)"
)
_SECRET_KEY = re.compile(r"--from-(?:literal|file)=([A-Za-z0-9._-]+)")


def given_secrets(files: Iterable[Path]) -> dict[str, frozenset[str]]:
    """The Secrets that users create, with their keys, from the commands in comments."""
    found: dict[str, frozenset[str]] = {}
    for file in files:
        # A continued line in a comment: `\` at its end, `#` before the next one.
        text = re.sub(r"\\\n\s*#?", " ", file.read_text(encoding="utf-8"))
        for name, options in _CREATE_SECRET.findall(text):
            found[name] = found.get(name, frozenset()) | frozenset(_SECRET_KEY.findall(options))
    return found


def check_names(rendering: Rendering) -> Iterator[Problem]:
    """Each resource has a namespace, the project's label, and a unique name."""
    seen = set()
    for each in rendering.resources:
        if each.kind != "Namespace" and not each.body["metadata"].get("namespace"):
            yield each, "has no namespace, and would be created in that of the context"
        if each.labels.get("app.kubernetes.io/part-of") != "lakefeed":
            yield each, "lacks the label app.kubernetes.io/part-of: lakefeed"
        if (each.kind, each.name) in seen:
            yield each, "is defined twice"
        seen.add((each.kind, each.name))


def check_objects(rendering: Rendering, given: Mapping[str, frozenset[str]]) -> Iterator[Problem]:
    """ConfigMaps, Secrets, claims and service accounts of pods exist, with the referenced keys."""
    for pod in rendering.pods():
        for kind, name, keys, where in _wanted_objects(pod):
            there = keys_of(rendering, kind, name, given)
            if there is None:
                hint = "; no manifest or command in a comment of k8s/ creates it" if kind == "Secret" else ""
                yield pod.owner, f"{where}: there is no {kind} {name}{hint}"
            else:
                for key in sorted(keys - there):
                    yield pod.owner, f"{where}: {kind} {name} has no key {key}, only {listed(there)}"


def _wanted_objects(pod: Pod) -> Iterator[tuple[str, str, set[str], str]]:
    """Kind, name and keys of the objects that a pod refers to, and where."""
    account = pod.spec.get("serviceAccountName")
    if account is not None:
        yield "ServiceAccount", account, set(), "serviceAccountName"
    for container in pod.containers:
        where = f"container {container.name}"
        for source in container.body.get("envFrom", []):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source and not source[field].get("optional"):
                    yield kind, source[field]["name"], set(), where
        for variable in container.body.get("env", []):
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                reference = variable.get("valueFrom", {}).get(field)
                if reference is not None and not reference.get("optional"):
                    yield kind, reference["name"], {reference["key"]}, f"{where}: variable {variable['name']}"
    for volume, source in volume_sources(pod):
        yield from _wanted_by_volume(volume, source)


def _wanted_by_volume(volume: str, source: Body) -> Iterator[tuple[str, str, set[str], str]]:
    where = f"volume {volume}"
    for field, kind, key in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
        reference = source.get(field)
        if reference is not None and not reference.get("optional"):
            name = reference.get(key) or reference["name"]
            yield kind, name, {item["key"] for item in reference.get("items", [])}, where
    if "persistentVolumeClaim" in source:
        yield "PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"], set(), where


def keys_of(
    rendering: Rendering, kind: str, name: str, given: Mapping[str, frozenset[str]]
) -> frozenset[str] | None:
    """The keys of an object in the rendering or created by users; None if it does not exist."""
    found = rendering.find(kind, name)
    if found is not None:
        parts = ("data", "binaryData", "stringData")
        return frozenset(key for part in parts for key in found.body.get(part) or {})
    return given.get(name) if kind == "Secret" else None


def listed(keys: Iterable[str]) -> str:
    """Names separated by commas, or `none`."""
    return ", ".join(sorted(keys)) or "none"


def check_volumes(rendering: Rendering) -> Iterator[Problem]:
    """Each mount has a volume, each volume is mounted, and mount paths are unique."""
    for pod in rendering.pods():
        claims = pod.owner.spec.get("volumeClaimTemplates") or []
        volumes = {each["name"] for each in pod.spec.get("volumes") or []}
        volumes |= {each["metadata"]["name"] for each in claims}
        mounted = set()
        for container in pod.containers:
            paths = set()
            for mount in container.body.get("volumeMounts", []):
                mounted.add(mount["name"])
                if mount["name"] not in volumes:
                    yield (
                        pod.owner,
                        f"container {container.name} mounts {mount['name']}, which is not a volume",
                    )
                if mount["mountPath"] in paths:
                    yield pod.owner, f"container {container.name} mounts two volumes at {mount['mountPath']}"
                paths.add(mount["mountPath"])
        for unused in sorted(volumes - mounted):
            yield pod.owner, f"volume {unused} is not mounted"


def check_selectors(rendering: Rendering) -> Iterator[Problem]:
    """Workloads, Services, disruption budgets and spread constraints select existing pods."""
    pods = list(rendering.pods())
    for each in rendering.of_kind("Deployment", "StatefulSet", "DaemonSet"):
        if each.pod is not None and not selects(each.spec["selector"], each.pod.labels):
            yield each, f"its selector {_listed(each.spec['selector'])} does not select its own pods"
    for each in rendering.of_kind("Service", "PodDisruptionBudget"):
        selector = each.spec.get("selector")
        if each.kind == "Service":
            selector = {"matchLabels": selector} if selector else None
        if selector is not None and not any(selects(selector, pod.labels) for pod in pods):
            yield each, f"its selector {_listed(selector)} selects no pod"
    for pod in pods:
        for constraint in pod.spec.get("topologySpreadConstraints") or []:
            if not selects(constraint["labelSelector"], pod.labels):
                yield pod.owner, f"spreads over {constraint['topologyKey']} by labels that its pods lack"


def _listed(selector: Body) -> str:
    labels = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    more = [f"{each['key']} {each['operator']}" for each in selector.get("matchExpressions") or []]
    return ", ".join(labels + more)


def check_ports(rendering: Rendering) -> Iterator[Problem]:
    """Services target ports of their pods, and the Service of a StatefulSet is headless."""
    for service in rendering.of_kind("Service"):
        selector = {"matchLabels": service.spec.get("selector")}
        pods = [pod for pod in rendering.pods() if selects(selector, pod.labels)]
        for port in service.spec.get("ports", []) if selector["matchLabels"] else []:
            target = port.get("targetPort", port["port"])
            for pod in pods:
                if target not in pod.ports:
                    yield service, f"port {target} targets {pod.owner}, which has {_ports(pod)}"
                elif service.spec.get("clusterIP") == "None" and port["port"] != pod.ports[target]:
                    number = pod.ports[target]
                    yield service, f"is headless: its port {port['port']} must be the pods' own, {number}"
    for each in rendering.of_kind("StatefulSet"):
        name = each.spec.get("serviceName")
        own = rendering.find("Service", name) if name else None
        if name and own is None:
            yield each, f"serviceName: there is no Service {name}"


def _ports(pod: Pod) -> str:
    return ", ".join(str(port) for port in pod.ports) or "no ports"


def check_probes(rendering: Rendering) -> Iterator[Problem]:
    """Probes use ports of the container and paths that its program serves."""
    for pod in rendering.pods():
        for container in pod.containers:
            if pod.owner.kind in _SERVERS and not container.init:
                for probe in ("livenessProbe", "readinessProbe"):
                    if probe not in container.body:
                        yield pod.owner, f"container {container.name} has no {probe}"
            for probe in _PROBES:
                request = container.body.get(probe, {}).get("httpGet")
                if request is None:
                    continue
                where = f"container {container.name}: {probe}"
                if request["port"] not in container.ports:
                    yield pod.owner, f"{where}: the container has no port {request['port']}"
                yield from _path_problems(pod, container, request["path"], where)


def _path_problems(pod: Pod, container: Container, path: str, where: str) -> Iterator[Problem]:
    arguments = container.body.get("args", [])
    match services.answers(container.image, container.part, arguments, path):
        case False:
            yield pod.owner, f"{where}: {container.image} does not serve {path}"
        case None:
            yield (
                pod.owner,
                (
                    f"{where}: the paths of {container.image} are unknown; see FOREIGN_PATHS in "
                    "k8s/check/services.py"
                ),
            )


def check_images(rendering: Rendering) -> Iterator[Problem]:
    """Images are those of docker-compose.yml: ours with any tag but `latest`, others with the same tag."""
    known = services.compose_images()
    for pod in rendering.pods():
        for container in pod.containers:
            repository, _, tag = container.image.partition("@")[0].rpartition(":")
            name = f"lakefeed-{container.part}" if container.part else repository
            where = f"container {container.name}: image {container.image}"
            if name not in known:
                yield pod.owner, f"{where} is not in docker-compose.yml: {listed(known)}"
            elif container.part is None and tag != known[name]:
                yield pod.owner, f"{where}, but docker-compose.yml has {name}:{known[name]}"
            elif not repository or tag == "latest":
                yield pod.owner, f"{where} has no fixed tag"
