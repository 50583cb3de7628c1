"""Renders kustomizations with kubectl: every overlay, and the components in pairs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from k8s.check.manifests import Rendering, Resource
from lakefeed_common.errors import LakefeedError

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
NAMESPACE = "lakefeed"

# Listed in this order: a component comes after those that it changes.
COMPONENTS = (
    "kafka",
    "publish",
    "batches",
    "compactor",
    "monitoring",
    "prometheus-operator",
    "keda",
    "local-aws",
    "tls",
    "mutual-tls",
    "sasl",
    "msk-iam",
)
# The broker of the component `kafka` has neither TLS nor users, and MSK with IAM needs no Secret.
_SECURE = ("tls", "mutual-tls", "sasl", "msk-iam")
_NOT_TOGETHER = [
    *({"kafka", name} for name in _SECURE),
    *({"msk-iam", name} for name in _SECURE[:-1]),
]
_NEEDS = {"mutual-tls": "tls"}
_ORIGIN = "config.kubernetes.io/origin"
# libyaml, if PyYAML has it, is ten times as fast.
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class CannotRenderError(LakefeedError):
    """kubectl is missing, or cannot render a kustomization."""


@dataclass(frozen=True)
class Kustomization:
    """A folder to render, unchanged or with these components of `k8s/components`.

    Attributes:
        name: for messages.
        folder: `k8s/base`, or an overlay.
        components: the components to use; None for those that it lists.
        applied: whether users apply it unchanged, so it must be complete.
    """

    name: str
    folder: Path
    components: tuple[str, ...] | None = None
    applied: bool = True


def kubectl() -> str:
    """The path of kubectl.

    Raises:
        CannotRenderError: there is none.
    """
    found = shutil.which("kubectl")
    if found is None:
        raise CannotRenderError(
            "kubectl is not on the PATH. The check uses its built-in kustomize and needs no cluster. "
            "Install it: https://kubernetes.io/docs/tasks/tools/"
        )
    return found


def kustomizations() -> list[Kustomization]:
    """Everything to check.

    Raises:
        CannotRenderError: a component has no place in the order.
    """
    there = {path.parent.name for path in K8S.glob("components/*/kustomization.yaml")}
    if there != set(COMPONENTS):
        raise CannotRenderError(
            f"k8s/components holds {sorted(there)}, and COMPONENTS of k8s/check/render.py names "
            f"{sorted(COMPONENTS)}: each must be listed, after those that it changes"
        )
    overlays = [
        Kustomization(f"overlays/{path.parent.name}", path.parent)
        for path in sorted(K8S.glob("overlays/*/kustomization.yaml"))
    ]
    combined = [
        Kustomization(" + ".join(["base", *chosen]), K8S / "base", chosen, applied=False)
        for chosen in _combinations()
    ]
    changed = [
        Kustomization(f"{each.name} with {' + '.join(chosen)}", each.folder, chosen)
        for each in overlays
        for chosen in _changes(each.folder)
    ]
    return overlays + changed + combined


def _combinations() -> list[tuple[str, ...]]:
    """None, each one, and each compatible pair, with their dependencies.

    Interactions between two components appear in their pair; all combinations of ten found nothing more.
    """
    found: dict[tuple[str, ...], None] = {}
    for size in range(3):
        for chosen in combinations(COMPONENTS, size):
            needed = {*chosen, *(_NEEDS[each] for each in chosen if each in _NEEDS)}
            if _may_be(needed):
                found[_in_order(needed)] = None
    return list(found)


def _changes(overlay: Path) -> Iterator[tuple[str, ...]]:
    """Likely changes to an overlay's components: one more, or all compatible ones."""
    listed = yaml.safe_load((overlay / "kustomization.yaml").read_text())["components"]
    own = {Path(path).name for path in listed}.intersection(COMPONENTS)
    # Whether broker and AWS are in the cluster is decided by the overlay.
    others = [name for name in COMPONENTS if name not in {*own, "kafka", "local-aws"}]
    every = own
    for name in others:
        more = {name, _NEEDS.get(name, name)}
        # Incompatible ones are removed: `sasl` replaces `msk-iam`.
        staying = {each for each in own if _may_be({each, *more})}
        if "kafka" in staying or "kafka" not in own:
            yield _in_order(staying | more)
        if _may_be(every | more):
            every = every | more
    yield _in_order(every)


def _in_order(names: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in COMPONENTS if name in names)


def _may_be(chosen: Collection[str]) -> bool:
    """Whether these components are compatible."""
    apart = not any(pair <= set(chosen) for pair in _NOT_TOGETHER)
    return apart and all(_NEEDS.get(each, each) in chosen for each in chosen)


def render_all(wanted: Iterable[Kustomization]) -> list[Rendering]:
    """Render in parallel, one per processor."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(render, wanted))


def render(wanted: Kustomization) -> Rendering:
    """Render with `kubectl kustomize`.

    Raises:
        CannotRenderError: with the message of kubectl.
    """
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="k8s-check-", dir=ROOT / "build") as folder:
        # kustomize does not accept absolute paths, hence a folder next to what it refers to.
        file = Path(folder) / "kustomization.yaml"
        file.write_text(yaml.safe_dump(_wrapped(wanted, Path(folder))))
        # Some versions of kubectl query the cluster for its version, but none is used here.
        environment = {**os.environ, "KUBECONFIG": os.devnull}
        command = [kubectl(), "kustomize", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode or done.stderr:
            raise CannotRenderError(f"{wanted.name}: kubectl kustomize: {done.stderr.strip()}")
        bodies = yaml.load_all(done.stdout, _LOADER)
        resources = tuple(_resource(body, Path(folder)) for body in bodies if body)
    return Rendering(wanted.name, resources, wanted.applied)


def _wrapped(wanted: Kustomization, folder: Path) -> dict[str, Any]:
    def relative(path: Path) -> str:
        return os.path.relpath(path, folder)

    components = [relative(K8S / "components" / name) for name in wanted.components or ()]
    if wanted.components is not None and wanted.applied:
        made = _edited(wanted.folder, folder, components)
    else:
        made = {"resources": [relative(wanted.folder)], "components": components}
    # An overlay sets these itself.
    own = {} if wanted.applied else {"namespace": NAMESPACE, "labels": [_LABELS]}
    return {"kind": "Kustomization", "buildMetadata": ["originAnnotations"], **made, **own}


def _edited(overlay: Path, folder: Path, components: list[str]) -> dict[str, Any]:
    """A copy of an overlay in another folder, with these components of `k8s/components` instead."""
    shutil.copytree(overlay, folder, dirs_exist_ok=True)
    own: dict[str, Any] = yaml.safe_load((overlay / "kustomization.yaml").read_text())

    def moved(paths: list[str]) -> list[str]:
        return [
            path if (folder / path).exists() else os.path.relpath(overlay / path, folder) for path in paths
        ]

    listed: list[str] = own["components"]
    ours = [Path(path).name in COMPONENTS for path in listed]
    first = ours.index(True)
    after = [path for path, known in zip(listed[first:], ours[first:], strict=True) if not known]
    own["components"] = moved(listed[:first]) + components + moved(after)
    own["resources"] = moved(own["resources"])
    return own


_LABELS = {"pairs": {"app.kubernetes.io/part-of": "lakefeed"}, "includeTemplates": True}


def _resource(body: dict[str, Any], folder: Path) -> Resource:
    annotations = body["metadata"].get("annotations", {})
    origin = yaml.safe_load(annotations.pop(_ORIGIN, "{}"))
    if not annotations:
        body["metadata"].pop("annotations", None)
    path = origin.get("path") or origin.get("configuredIn")
    return Resource(body, os.path.relpath(folder / path, ROOT) if path else "")
