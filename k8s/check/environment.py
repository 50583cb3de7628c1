"""Checks the environment of containers against the settings classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from k8s.check import services
from k8s.check.manifests import Container, Pod, Rendering
from k8s.check.references import Problem

# Placeholder for a value that only the cluster knows, such as that of a Secret.
UNKNOWN = "unknown"


def variables(rendering: Rendering, container: Container) -> dict[str, str]:
    """A container's environment. `env` takes precedence over `envFrom`."""
    found: dict[str, str] = {}
    for source in container.body.get("envFrom", []):
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in source:
                found |= _data(rendering, kind, source[field]["name"])
    for variable in container.body.get("env", []):
        if "value" in variable:
            found[variable["name"]] = str(variable["value"])
        else:
            reference = variable.get("valueFrom", {}).get("configMapKeyRef")
            data = _data(rendering, "ConfigMap", reference["name"]) if reference else {}
            found[variable["name"]] = data.get(reference["key"], UNKNOWN) if reference else UNKNOWN
    return found


def _data(rendering: Rendering, kind: str, name: str) -> dict[str, str]:
    resource = rendering.find(kind, name)
    data = (resource.body.get("data") or {}) if resource else {}
    return {key: UNKNOWN if kind == "Secret" else str(value) for key, value in data.items()}


def check_variables(rendering: Rendering) -> Iterator[Problem]:
    """Variables are settings of their service, with valid values."""
    for pod in rendering.pods():
        for container in pod.containers:
            if container.part is not None:
                for message in _variable_problems(rendering, container, container.part):
                    yield pod.owner, f"container {container.name}: {message}"
    # A ConfigMap is shared, so its keys may be settings of any component.
    for each in rendering.of_kind("ConfigMap", "Secret"):
        for name in each.body.get("data") or {}:
            if services.concerns_us(name) and name not in services.all_variables():
                yield each, f"{name} is not a setting of any component"


def _variable_problems(rendering: Rendering, container: Container, part: str) -> Iterator[str]:
    try:
        cls = services.settings_of(part, container.body.get("args", []))
    except KeyError:
        yield f"there is no component {part} with settings"
        return
    own = services.variables_of(cls).keys() | services.AWS_VARIABLES
    for variable in container.body.get("env", []):
        name = variable["name"]
        if services.concerns_us(name) and name not in own:
            yield f"{name} is not a setting of {part}"
    given = variables(rendering, container)
    wrong = services.wrong_values(cls, given)
    if wrong is not None:
        yield f"it would not start: {wrong}"
    mounted = [PurePosixPath(mount["mountPath"]) for mount in container.body.get("volumeMounts", [])]
    for name, file in services.files(cls, given).items():
        if file and not any(PurePosixPath(file).is_relative_to(path) for path in mounted):
            yield f"it would not start: {name}={file}: no volume is mounted there"


def check_http_ports(rendering: Rendering) -> Iterator[Problem]:
    """The port named `http` is the one that the service listens on."""
    for pod in rendering.pods():
        for container in pod.containers:
            if container.part is None or "http" not in container.ports:
                continue
            arguments = container.body.get("args", [])
            port = services.port_of(container.part, arguments, variables(rendering, container))
            if container.ports["http"] != port:
                yield (
                    pod.owner,
                    (
                        f"container {container.name}: port http is {container.ports['http']}, and "
                        f"{container.part} listens on {port}"
                    ),
                )


def check_grace(rendering: Rendering) -> Iterator[Problem]:
    """The termination grace period of a pod is longer than its service drains."""
    for pod in rendering.pods():
        for container in pod.containers:
            if container.part == "consumer":
                yield from _grace_problems(rendering, pod, container)


def _grace_problems(rendering: Rendering, pod: Pod, container: Container) -> Iterator[Problem]:
    default = services.settings_of("consumer").model_fields["drain_seconds"].default
    drain = float(variables(rendering, container).get("LAKEFEED_DRAIN_SECONDS", default))
    grace = float(pod.spec.get("terminationGracePeriodSeconds", 30))
    if grace <= drain:
        message = "it would be killed while it is storing"
        yield pod.owner, f"terminationGracePeriodSeconds {grace:g} for a drain of {drain:g} s: {message}"
