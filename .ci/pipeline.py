"""What must pass before a change lands, on a clean checkout of a new machine, as root.

Stages that mostly wait (a Docker engine, containers, an instance, a cluster) run in parallel with those that
compute. Only `make`, `engine`, `packages` and `cluster` install packages of the system, one after the other.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stages import Stage, run

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "ci"
MACHINE = "bash .ci/run"

STAGES = (
    Stage("make", f"{MACHINE} make"),
    # Everything else finds the environment ready: two at once would be in each other's way.
    Stage("set-up", "make setup fetch", after=["make"]),
    Stage("engine", f"{MACHINE} engine", after=["make"]),
    Stage("packages", f"{MACHINE} packages", after=["engine"]),
    # From nothing, the cluster takes longest. The tests that count on their speed wait until it is built.
    Stage("cluster", f"{MACHINE} cluster", after=["packages"]),
    # Later builds of these images find all of their layers.
    Stage("images", "docker compose build", after=["engine"]),
    Stage("lint", "make lint", after=["set-up"]),
    # Terraform and the instance wait most of the time, for what the provider and systemd wait for.
    Stage("infra-e2e", "make infra-e2e", after=["set-up", "engine"]),
    Stage("infra-test", "make infra-test", after=["set-up"]),
    Stage("k8s-check", "make k8s-check", after=["lint"]),
    # Next to what computes it takes no less time on two cores, and its tests come closer to their limits.
    # The instance runs next to it and mostly waits.
    Stage("test-all", "make test-all", after=["infra-test", "k8s-check", "cluster", "images"]),
    # Pods and jobs wait most of the time, for images, probes and each other.
    Stage("k8s-e2e", '. "$CI_CLUSTER"; make k8s-e2e', after=["test-all", "infra-e2e"]),
    Stage("chaos", "make chaos QUICK=1", after=["test-all", "infra-e2e"]),
    Stage("chaos-batches", "make chaos QUICK=1 LAYOUT=batches COMPACT=1", after=["chaos"]),
    Stage("bench", "make bench SUITE=sink QUICK=1", after=["chaos-batches"]),
    # Containers wait for each other's health most of the time.
    Stage("e2e", "make e2e", after=["test-all", "infra-e2e"]),
)


def terraform_plugins() -> str:
    """Without access to a registry of providers, the provider is in a folder with this name."""
    found = (folder for depth in ("", "*/", "*/*/") for folder in Path("/").glob(f"{depth}tf-plugins"))
    return str(next((folder for folder in found if folder.is_dir()), ""))


def main() -> int:
    """Run them all."""
    os.chdir(ROOT)
    os.environ |= {
        "CI": "true",
        "DEBIAN_FRONTEND": "noninteractive",
        "TF_PLUGIN_DIR": os.environ.get("TF_PLUGIN_DIR") or terraform_plugins(),
        # The variables that lead to the cluster, written by `run cluster`.
        "CI_CLUSTER": str(LOGS / "cluster.env"),
    }
    if (ROOT.parent / "shared" / "stand-ins" / "up").exists():
        # The engine that it brings has no BuildKit; the Dockerfiles want none.
        os.environ["DOCKER_BUILDKIT"] = "0"
    return run(STAGES, LOGS, down=f"{MACHINE} down", closing="test-all")


if __name__ == "__main__":
    sys.exit(main())
