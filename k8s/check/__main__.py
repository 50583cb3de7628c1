"""`python -m k8s.check`: exit code 0 without problems, 1 with one line per problem, 2 if it cannot run."""

from __future__ import annotations

import sys

from k8s.check import checks, references, render, schemas
from lakefeed_common.errors import LakefeedError


def main() -> int:
    """Render and check the manifests, and print the problems."""
    try:
        renderings = render.render_all(render.kustomizations())
        given = references.given_secrets(sorted(render.K8S.rglob("*.yaml")))
        findings = [
            *checks.check_schemas(renderings),
            *checks.check(renderings, given),
        ]
    except LakefeedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for finding in findings:
        print(f"{finding.rendering}: {finding.resource}: {finding.message}", file=sys.stderr)
    resources = len(checks.distinct(renderings))
    print(
        f"k8s: {len(renderings)} renderings, {resources} different resources, "
        f"Kubernetes {', '.join(schemas.VERSIONS)}: "
        + (f"{len(findings)} problems" if findings else "no problems")
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
