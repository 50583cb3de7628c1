"""The `restricted` pod security standard, and additional rules of the project."""

from __future__ import annotations

from collections.abc import Iterator

from k8s.check.manifests import Body, Container, Pod, Rendering, Resource
from k8s.check.references import Problem

# https://kubernetes.io/docs/concepts/security/pod-security-standards/
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}
_VOLUMES |= {"secret"}
_HOST = ("hostNetwork", "hostPID", "hostIPC")


def check_security(rendering: Rendering) -> Iterator[Problem]:
    """Pods and roles have minimal permissions."""
    for role in rendering.of_kind("Role", "ClusterRole"):
        yield from _role_problems(role)
    for pod in rendering.pods():
        for message in (*_pod_problems(pod), *_volume_problems(pod)):
            yield pod.owner, message
        for container in pod.containers:
            for message in _container_problems(pod, container):
                yield pod.owner, f"container {container.name}: {message}"


def _role_problems(role: Resource) -> Iterator[Problem]:
    for rule in role.body.get("rules") or []:
        for field in ("apiGroups", "resources", "verbs"):
            if "*" in rule.get(field, []):
                yield role, f"{field} are *: it also allows all future ones"


def _pod_problems(pod: Pod) -> Iterator[str]:
    for name in _HOST:
        if pod.spec.get(name):
            yield f"{name} is on"
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false: it would have a token for the cluster's API"
    if pod.spec.get("serviceAccountName", "default") == "default":
        yield "has no dedicated service account"


def _volume_problems(pod: Pod) -> Iterator[str]:
    for volume in pod.spec.get("volumes") or []:
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"volume {volume['name']}: {kind} is not allowed"
        if "emptyDir" in volume and not volume["emptyDir"].get("sizeLimit"):
            yield f"volume {volume['name']} has no sizeLimit: it could fill the node's disk"


def _container_problems(pod: Pod, container: Container) -> Iterator[str]:
    context: Body = container.body.get("securityContext") or {}
    both = {**(pod.spec.get("securityContext") or {}), **context}
    if context.get("privileged"):
        yield "privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not true"
    if (context.get("capabilities") or {}) != {"drop": ["ALL"]}:
        yield "capabilities are not exactly `drop: [ALL]`"
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield "may run as root: runAsNonRoot is not true, or runAsUser is 0"
    if (both.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile is not RuntimeDefault"
    yield from _share_problems(container)


def _share_problems(container: Container) -> Iterator[str]:
    """Resources and ports that a pod uses on its node."""
    for port in container.body.get("ports", []):
        if "hostPort" in port:
            yield f"hostPort {port['hostPort']}: it uses a port of the node"
    for what in ("requests", "limits"):
        missing = {"cpu", "memory"} - (container.body.get("resources") or {}).get(what, {}).keys()
        if missing:
            yield f"has no {what} for {' and '.join(sorted(missing))}"
