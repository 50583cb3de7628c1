"""The model of rendered manifests: resources, pod templates, containers, selectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A problem: resource, rendering and message."""

    rendering: str
    resource: str
    message: str


@dataclass(frozen=True)
class Resource:
    """One rendered resource; `file` is its source, if kustomize reports it."""

    body: Body
    file: str = ""

    @property
    def kind(self) -> str:
        """Such as `Deployment`."""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Its name, including a generated hash."""
        return str(self.body["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        """Its own labels, not those of its pods."""
        return self.body["metadata"].get("labels") or {}

    @property
    def spec(self) -> Body:
        """Its specification; empty for kinds without one."""
        return self.body.get("spec") or {}

    @cached_property
    def pod(self) -> Pod | None:
        """The pods that it creates, if any."""
        spec = self.spec
        if self.kind == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        template = self.body if self.kind == "Pod" else spec.get("template")
        if not isinstance(template, Mapping) or "containers" not in template.get("spec", {}):
            return None
        return Pod(self, template)

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" + (f" ({self.file})" if self.file else "")


@dataclass(frozen=True)
class Container:
    """One container of a pod."""

    body: Body
    init: bool

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.body["name"])

    @property
    def image(self) -> str:
        """Repository and tag."""
        return str(self.body["image"])

    @property
    def ports(self) -> dict[str | int, int]:
        """Its ports by name and by number."""
        found: dict[str | int, int] = {}
        for port in self.body.get("ports", []):
            number = int(port["containerPort"])
            found[number] = number
            if "name" in port:
                found[port["name"]] = number
        return found

    @property
    def part(self) -> str | None:
        """The component of its image, such as `consumer`; None for third-party images."""
        repository = self.image.rpartition("/")[2].partition("@")[0].partition(":")[0]
        return repository.removeprefix("lakefeed-") if repository.startswith("lakefeed-") else None


@dataclass(frozen=True)
class Pod:
    """The pods that a workload creates."""

    owner: Resource
    template: Body

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the pods."""
        return self.template.get("metadata", {}).get("labels") or {}

    @property
    def spec(self) -> Body:
        """The pods' specification."""
        spec: Body = self.template["spec"]
        return spec

    @property
    def containers(self) -> list[Container]:
        """All containers, including init containers."""
        return [
            *(Container(body, init=True) for body in self.spec.get("initContainers", [])),
            *(Container(body, init=False) for body in self.spec["containers"]),
        ]

    @property
    def ports(self) -> dict[str | int, int]:
        """The ports of all its containers by name and by number."""
        return {key: port for each in self.containers for key, port in each.ports.items()}


@dataclass(frozen=True)
class Rendering:
    """The output of `kubectl kustomize` for one kustomization.

    Attributes:
        applied: it is applied unchanged by users, so it must be complete.
    """

    name: str
    resources: tuple[Resource, ...]
    applied: bool = True
    _index: dict[tuple[str, str], Resource] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {(each.kind, each.name): each for each in self.resources}
        object.__setattr__(self, "_index", index)

    def find(self, kind: str, name: str) -> Resource | None:
        """The resource of that kind and name."""
        return self._index.get((kind, name))

    def of_kind(self, *kinds: str) -> Iterator[Resource]:
        """The resources of these kinds."""
        return (each for each in self.resources if each.kind in kinds)

    def pods(self) -> Iterator[Pod]:
        """The pods of all workloads."""
        return (each.pod for each in self.resources if each.pod is not None)


def selects(selector: Body, labels: Mapping[str, str]) -> bool:
    """Whether a label selector, for example of a Deployment or a NetworkPolicy, matches these labels."""
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_expression(each, labels) for each in selector.get("matchExpressions") or [])


def _expression(expression: Body, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None


def volume_sources(pod: Pod) -> Iterator[tuple[str, Body]]:
    """The sources of a pod's volumes with the name of the volume; those of projected volumes individually."""
    for volume in pod.spec.get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources", [volume]):
            yield volume["name"], source
