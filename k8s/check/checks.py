"""All checks over all renderings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from k8s.check import environment, network, references, scaling, schemas, security, watching
from k8s.check.manifests import Finding, Pod, Rendering, Resource
from k8s.check.references import Problem

_ALONE = (
    references.check_names,
    references.check_volumes,
    references.check_selectors,
    references.check_ports,
    references.check_probes,
    references.check_images,
    environment.check_variables,
    environment.check_http_ports,
    environment.check_grace,
    security.check_security,
    scaling.check_scaling,
    watching.check_data_sources,
)


def check(renderings: Sequence[Rendering], given: Mapping[str, frozenset[str]]) -> list[Finding]:
    """All problems, without duplicates.

    Args:
        renderings: all renderings; a policy may select a pod of another one.
        given: Secrets that users create, with their keys.
    """
    pods = list({repr(pod.template): pod for each in renderings for pod in each.pods()}.values())
    found = {
        (str(resource), message): Finding(rendering.name, str(resource), message)
        # Overlays and small combinations come first: their names are the clearest.
        for rendering in reversed(renderings)
        for resource, message in _problems(rendering, renderings, pods, given)
    }
    return sorted(found.values(), key=lambda each: (each.resource, each.message))


def _problems(
    rendering: Rendering,
    everything: Sequence[Rendering],
    pods: Sequence[Pod],
    given: Mapping[str, frozenset[str]],
) -> Iterator[Problem]:
    for one in _ALONE:
        yield from one(rendering)
    yield from references.check_objects(rendering, given)
    yield from scaling.check_trigger_secrets(rendering, given)
    yield from network.check_policies(rendering, pods)
    yield from watching.check_monitors(rendering, pods)
    yield from watching.check_scraping(rendering, everything)


def check_schemas(renderings: Sequence[Rendering]) -> list[Finding]:
    """Schema violations; a resource that is in many renderings is validated once."""
    return [
        Finding(rendering, str(resource), message)
        for rendering, resource in distinct(renderings)
        for message in schemas.problems(resource)
    ]


def distinct(renderings: Sequence[Rendering]) -> list[tuple[str, Resource]]:
    """Every distinct resource, with the first rendering that contains it."""
    found: dict[str, tuple[str, Resource]] = {}
    for rendering in renderings:
        for resource in rendering.resources:
            found.setdefault(repr(resource.body), (rendering.name, resource))
    return list(found.values())
