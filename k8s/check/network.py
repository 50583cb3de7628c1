"""Network policies: the pods that they select and the ports that they open exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from k8s.check.manifests import Body, Pod, Rendering, Resource, selects
from k8s.check.references import Problem


def check_policies(rendering: Rendering, all_pods: Sequence[Pod]) -> Iterator[Problem]:
    """Selectors match pods of any rendering, because a policy may be for a component that is not used here.

    Peers in other namespaces are not checked; their ports are those of our own pods.
    """
    policies = [each.spec.get("podSelector") or {} for each in rendering.of_kind("NetworkPolicy")]
    for pod in rendering.pods():
        if not any(selects(selector, pod.labels) for selector in policies):
            yield pod.owner, "no NetworkPolicy selects its pods: they may connect to everything"
    for policy in rendering.of_kind("NetworkPolicy"):
        selected = [pod for pod in all_pods if selects(policy.spec.get("podSelector") or {}, pod.labels)]
        if not selected:
            yield policy, "its podSelector selects no pod of any rendering"
        for rule in policy.spec.get("ingress") or []:
            yield from _peers(policy, rule.get("from") or [], all_pods)
            yield from _ports(policy, rule.get("ports") or [], selected)
        for rule in policy.spec.get("egress") or []:
            yield from _peers(policy, rule.get("to") or [], all_pods)
            ours = [pod for peer in rule.get("to") or [] for pod in _selected(peer, all_pods) or []]
            if ours:
                yield from _ports(policy, rule.get("ports") or [], ours)


def _selected(peer: Body, all_pods: Iterable[Pod]) -> list[Pod] | None:
    """Our pods that a peer selects; None if it is in another namespace."""
    if "podSelector" not in peer or "namespaceSelector" in peer:
        return None
    return [pod for pod in all_pods if selects(peer["podSelector"], pod.labels)]


def _peers(policy: Resource, peers: Iterable[Body], all_pods: Sequence[Pod]) -> Iterator[Problem]:
    for peer in peers:
        if _selected(peer, all_pods) == []:
            yield policy, f"the peer {dict(peer['podSelector'])} is not a pod of any rendering"
        for name in _values(peer.get("podSelector")) if "namespaceSelector" not in peer else []:
            if not any(pod.labels.get("app.kubernetes.io/name") == name for pod in all_pods):
                yield policy, f"the peer {name} is not a pod of any rendering"
    for name in _values(policy.spec.get("podSelector")):
        if not any(pod.labels.get("app.kubernetes.io/name") == name for pod in all_pods):
            yield policy, f"selects {name}, which is not a pod of any rendering"


def _values(selector: Body | None) -> Iterator[str]:
    """The names in `app.kubernetes.io/name In […]`, each of which must exist."""
    for each in (selector or {}).get("matchExpressions") or []:
        if each["key"] == "app.kubernetes.io/name" and each["operator"] == "In":
            yield from each["values"]


def _ports(policy: Resource, ports: Iterable[Body], pods: Iterable[Pod]) -> Iterator[Problem]:
    there = {port for pod in pods for port in pod.ports}
    for port in ports:
        wanted = range(port["port"], port["endPort"] + 1) if "endPort" in port else [port["port"]]
        for each in wanted:
            if each not in there:
                yield policy, f"port {each} is not a port of the selected pods: {_listed_ports(there)}"


def _listed_ports(ports: Iterable[str | int]) -> str:
    return ", ".join(sorted(str(port) for port in ports)) or "they have none"
