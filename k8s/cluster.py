"""kubectl with the current context: images, manifests, rollouts and jobs, for `up` and the tests."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from k8s.check.manifests import Pod, Rendering, Resource
from lakefeed_common.errors import LakefeedError, SettingsError, UnavailableError

ROOT = Path(__file__).resolve().parents[1]
OVERLAY = ROOT / "k8s" / "overlays" / "local"
PARTS = ("producer", "consumer", "analytics", "local")
ROLLOUT_SECONDS = 420.0


class ClusterError(LakefeedError):
    """kubectl or the cluster returned an error; with its message."""


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Run kubectl; return its output.

    Raises:
        ClusterError: it failed.
    """
    done = subprocess.run(
        ["kubectl", *arguments], cwd=ROOT, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ClusterError(f"kubectl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def current_context() -> str:
    """The current context of kubectl, if its cluster is reachable.

    Raises:
        SettingsError: there is no kubectl, or no context.
        UnavailableError: the cluster does not answer.
    """
    if shutil.which("kubectl") is None:
        raise SettingsError("there is no kubectl on the PATH: https://kubernetes.io/docs/tasks/tools/")
    try:
        context = kubectl("config", "current-context").strip()
    except ClusterError:
        raise SettingsError(
            "kubectl has no current context. `kubectl config get-contexts` lists them; choose one with "
            "`kubectl config use-context NAME`, or start a cluster, such as `kind create cluster`"
        ) from None
    try:
        kubectl("get", "--raw", "/readyz", "--request-timeout=10s")
    except ClusterError as error:
        raise UnavailableError(
            f"the cluster of the context {context} does not answer: {str(error).splitlines()[-1]}. "
            "Start it, or choose another: kubectl config use-context NAME"
        ) from None
    return context


# ---- images -----------------------------------------------------------------------------------------


def build(version: str) -> None:
    """Build the four images, `lakefeed-PART:VERSION`."""
    for part in PARTS:
        tag = f"lakefeed-{part}:{version}"
        print(f"building {tag}", file=sys.stderr, flush=True)
        file = ["--file", f"{part}/Dockerfile", "--label", f"version={version}"]
        _docker("build", "--quiet", *file, "--tag", tag, ".")


def loader(context: str) -> list[str] | None:
    """The command that loads images into the cluster, without the tags; None if it shares Docker's images.

    Raises:
        SettingsError: the type of cluster is unknown, and `LOAD` is not set.
    """
    if command := os.environ.get("LOAD"):
        return shlex.split(command)
    if context.startswith("kind-"):
        return ["kind", "load", "docker-image", "--name", context.removeprefix("kind-")]
    if context == "minikube":
        return ["minikube", "image", "load"]
    if context == "docker-desktop":
        return None
    raise SettingsError(
        f"unknown how to load images into the cluster of the context {context}. Set LOAD to a command that "
        "takes tags, such as LOAD='k3d image import' (LOAD=true if it shares Docker's images)"
    )


def load(command: Sequence[str] | None, tags: Sequence[str]) -> None:
    """Load images from the local Docker into the cluster.

    Raises:
        ClusterError: the command failed.
    """
    if command is None:
        return
    print(f"loading {', '.join(tags)} into the cluster", file=sys.stderr, flush=True)
    try:
        done = subprocess.run([*command, *tags], stdout=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise ClusterError(f"{command[0]}, which loads images into the cluster: {error.strerror}") from None
    if done.returncode:
        raise ClusterError(f"`{shlex.join([*command, *tags])}` ended with {done.returncode}, see above")


def had(image: str) -> bool:
    """Whether the local Docker has a third-party image, or can pull it."""
    try:
        _docker("image", "inspect", image)
    except ClusterError:
        try:
            _docker("pull", "--quiet", image)
        except ClusterError:
            return False
    return True


def _docker(*arguments: str) -> None:
    done = subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"docker {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")


# ---- manifests --------------------------------------------------------------------------------------


def leave_out(pods: Iterable[Pod], lacking: Collection[str]) -> list[dict[str, str]]:
    """Patches that remove monitoring workloads without an image, each reported in one line.

    Raises:
        ClusterError: an image of the pipeline itself is missing.
    """
    patches = []
    for pod in pods:
        for image in sorted({container.image for container in pod.containers}.intersection(lacking)):
            workload = pod.owner
            if workload.labels.get("app.kubernetes.io/component") != "monitoring":
                raise ClusterError(
                    f"{workload} needs the image {image}, which the local Docker does not have and cannot "
                    f"pull: see `docker pull {image}`"
                )
            print(f"skipped: {workload}, because its image {image} cannot be pulled", file=sys.stderr)
            target = {"apiVersion": "apps/v1", "kind": workload.kind, "metadata": {"name": workload.name}}
            patches.append({"patch": json.dumps({"$patch": "delete", **target})})
    return patches


class Deployment:
    """The local overlay in a namespace, with a separate kustomization in `build`.

    Args:
        namespace: contains all resources, and is created by it.
        load: loads images into the cluster, see `loader`.
    """

    def __init__(self, namespace: str, load: Sequence[str] | None) -> None:
        self.namespace = namespace
        self._load = load
        self._loaded: set[str] = set()
        self._folder = ROOT / "build" / namespace

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return kubectl("--namespace", self.namespace, *arguments, given=given)

    def json(self, *arguments: str) -> Any:
        """The output of `kubectl … --output json`."""
        return json.loads(self.kubectl(*arguments, "--output", "json"))

    def exists(self) -> bool:
        """Whether the namespace exists."""
        return bool(kubectl("get", "namespace", self.namespace, "--ignore-not-found", "--output", "name"))

    def check_is_local(self) -> None:
        """Refuse to use a namespace that was not created by `make k8s-local`.

        Raises:
            SettingsError: the namespace exists and contains no local AWS.
        """
        found = self.kubectl("get", "statefulset", "aws", "--ignore-not-found", "--output", "name")
        if self.exists() and not found:
            raise SettingsError(
                f"the namespace {self.namespace} already exists and has no local AWS: it was not created by "
                "`make k8s-local`. Choose another cluster: kubectl config use-context NAME"
            )

    def apply(self) -> None:
        """Apply the prepared kustomization."""
        kubectl("apply", "--kustomize", str(self._folder))

    def prepare(self, version: str, components: Sequence[str] = (), **settings: str) -> None:
        """Load the images and write the kustomization; monitoring without its image is skipped.

        Args:
            version: tag of the project's images.
            components: names of components that the overlay lacks.
            settings: variables of `lakefeed-settings` that differ.

        Raises:
            ClusterError: an image of the pipeline is not available.
        """
        images = [{"name": f"lakefeed-{part}", "newTag": version} for part in PARTS]
        changed = {"name": "lakefeed-settings", "behavior": "merge", "literals": _literals(settings)}
        overlay = yaml.safe_load((OVERLAY / "kustomization.yaml").read_text())
        # First, because those of the overlay change them.
        components = [f"../../components/{name}" for name in components] + overlay["components"]
        kustomization: dict[str, Any] = {
            **overlay,
            "namespace": self.namespace,
            "resources": self._relative(overlay["resources"]),
            "components": self._relative(components),
            "images": images,
            "configMapGenerator": [changed] if settings else [],
        }
        self._write(kustomization)
        pods = self._pods()
        wanted = {container.image for pod in pods for container in pod.containers}
        lacking = {image for image in wanted if not image.startswith("lakefeed-") and not had(image)}
        patches = leave_out(pods, lacking)
        if new := wanted - lacking - self._loaded:
            load(self._load, sorted(new))
            self._loaded |= new
        self._write({**kustomization, "patches": patches})

    def _relative(self, folders: Sequence[str]) -> list[str]:
        """Folders that the overlay names, as the kustomization names them."""
        return [os.path.relpath(OVERLAY / each, self._folder) for each in folders]

    def _write(self, kustomization: dict[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        (self._folder / "kustomization.yaml").write_text(json.dumps(kustomization, indent=2) + "\n")

    def _pods(self) -> list[Pod]:
        bodies = yaml.safe_load_all(kubectl("kustomize", str(self._folder)))
        return list(Rendering(self.namespace, tuple(map(Resource, bodies))).pods())

    def restart(self) -> None:
        """Restart everything, for images that changed under the same tag."""
        self.kubectl("rollout", "restart", "deployment,statefulset")

    def remove(self) -> None:
        """Delete the namespace, and wait until it no longer exists."""
        kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=400s")
        shutil.rmtree(self._folder, ignore_errors=True)

    # ---- what runs there --------------------------------------------------------------------------------

    def unready(self) -> list[str]:
        """What is not rolled out yet: one line per Deployment or StatefulSet."""
        lines = []
        for item in self.json("get", "deployment,statefulset")["items"]:
            spec, status = item["spec"], item.get("status", {})
            want = spec["replicas"]
            current = status.get("observedGeneration", 0) >= item["metadata"]["generation"]
            updated = status.get("updatedReplicas", 0)
            ready = status.get("readyReplicas", 0)
            if not (current and updated == ready == status.get("replicas", 0) == want):
                lines.append(f"{item['metadata']['name']} {min(ready, updated)}/{want}")
        return sorted(lines)

    def wait_rolled_out(self, seconds: float = ROLLOUT_SECONDS) -> None:
        """Wait until everything is rolled out, and print what is pending.

        Raises:
            ClusterError: not rolled out in time; with events, pods and logs.
        """
        end, said = time.monotonic() + seconds, ""
        while unready := self.unready():
            if (line := ", ".join(unready)) != said:
                said = line
                print(f"waiting for {line}", file=sys.stderr, flush=True)
            if time.monotonic() > end:
                raise ClusterError(f"not ready within {seconds:.0f} s: {said}\n{self.state()}")
            time.sleep(1)

    def state(self) -> str:
        """Diagnostics for a failure: pods, events, and the ends of the logs."""
        parts = [self.kubectl("get", "pods,jobs", "--output", "wide")]
        parts.append(self.kubectl("get", "events", "--sort-by", ".lastTimestamp"))
        for pod in self.json("get", "pods")["items"]:
            for more in ([], ["--previous"]):
                try:
                    name = pod["metadata"]["name"]
                    log = self.kubectl("logs", name, "--all-containers", "--tail", "40", *more)
                except ClusterError:
                    continue
                parts.append(f"---- {name} {' '.join(more)}\n{log}")
        return "\n".join(parts)

    def usage(self) -> str:
        """Resource usage of the first container of each running pod since its start."""
        lines = []
        for pod in self.json("get", "pods", "--field-selector", "status.phase=Running")["items"]:
            name = pod["metadata"]["name"]
            usage = self.kubectl("exec", name, "--", "sh", "-c", _READ_USAGE)
            memory, nanoseconds = map(int, usage.split())
            lines.append(f"{name}: {memory / 2**20:.0f} MiB peak memory, {nanoseconds / 1e9:.1f} s of CPU")
        return "\n".join(lines)

    def start_job(self, name: str, *options: str) -> None:
        """Start a job of the CronJob `publish`; `options` follow its arguments."""
        self.kubectl("delete", "job", name, "--ignore-not-found")
        job = self.json("create", "job", name, "--from", "cronjob/publish", "--dry-run=client")
        job["spec"]["template"]["spec"]["containers"][0]["args"] += options
        self.kubectl("apply", "--filename", "-", given=json.dumps(job))

    def wait_job(self, name: str, seconds: float = 300.0) -> str:
        """Wait until a job ends; return its log.

        Raises:
            ClusterError: it failed, or did not end in time.
        """
        end = time.monotonic() + seconds
        while True:
            status = self.json("get", "job", name)["status"]
            ended = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
            if "Complete" in ended:
                return self.kubectl("logs", f"job/{name}")
            if "Failed" in ended or time.monotonic() > end:
                log = self.kubectl("logs", f"job/{name}", "--tail", "40")
                raise ClusterError(f"the job {name} failed, or took more than {seconds:.0f} s:\n{log}")
            time.sleep(0.5)

    @contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[str]:
        """Forward a local port to a service's port within the context; yields the address."""
        command = ["kubectl", "--namespace", self.namespace, "port-forward", f"service/{service}", f":{port}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                line = process.stdout.readline() if process.stdout else ""
                match = re.search(r"127\.0\.0\.1:(\d+)", line)
                if match is None:
                    raise ClusterError(f"kubectl port-forward to {service}: {line}")
                yield f"127.0.0.1:{match[1]}"
            finally:
                process.terminate()


# From cgroup v2 or v1: bytes, and nanoseconds (v2 has microseconds).
_READ_USAGE = """
cd /sys/fs/cgroup
if [ -f memory.peak ]; then
    cat memory.peak
    while read -r name value; do [ "$name" != usage_usec ] || echo "${value}000"; done <cpu.stat
else
    cat memory/memory.max_usage_in_bytes cpuacct/cpuacct.usage
fi
"""


def _literals(settings: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    """Wait until a condition holds.

    Raises:
        ClusterError: it did not hold in time; with the message of `otherwise`.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ClusterError(f"not within {seconds:.0f} s: {otherwise()}")
        time.sleep(1)
