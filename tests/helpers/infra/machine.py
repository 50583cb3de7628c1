"""A machine in place of an EC2 instance: Debian with systemd and cloud-init in a container, the metadata
of an instance at their own address, a volume, and a local AWS.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lakefeed_local.files import locked

INSTANCE = Path(__file__).resolve().parents[2] / "infra" / "instance"
IMAGE = "lakefeed-test-instance"
LABEL = "lakefeed-infra-e2e"
# Addresses that are reserved for documentation.
NETWORK = "198.51.100.0/24"
GATEWAY = "198.51.100.1"
METADATA_NETWORK = "169.254.169.0/24"
METADATA_ADDRESS = "169.254.169.254"
# Serves files to the machine, such as Kafka's release.
MIRROR_ADDRESS = "198.51.100.2"


def run(*command: str, check: bool = True, environment: dict[str, str] | None = None) -> str:
    """Run a command; returns its output."""
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    said = done.stdout.decode(errors="replace")
    assert not check or done.returncode == 0, (
        f"{' '.join(command)}: {done.returncode}\n{said}{done.stderr.decode()}"
    )
    return said


def docker(*arguments: str, check: bool = True) -> str:
    return run("docker", *arguments, check=check)


@contextmanager
def networks() -> Iterator[tuple[str, str]]:
    """Names of the network of machines and of that of the metadata; one run at a time has their addresses."""
    with locked(Path(tempfile.gettempdir()) / f"{LABEL}.lock"):
        _remove_leftovers()
        try:
            suffix = uuid.uuid4().hex[:8]
            names = (f"{LABEL}-{suffix}", f"{LABEL}-metadata-{suffix}")
            docker("network", "create", "--label", LABEL, "--subnet", NETWORK, "--gateway", GATEWAY, names[0])
            docker(
                *("network", "create", "--label", LABEL, "--internal", "--subnet", METADATA_NETWORK, names[1])
            )
            yield names
        finally:
            _remove_leftovers()


def _remove_leftovers() -> None:
    """Remove the containers of this run and of killed ones."""
    mine = ("--quiet", "--filter", f"label={LABEL}")
    for name in docker("ps", "--all", *mine).split():
        docker("rm", "--force", "--volumes", name)
    for name in docker("network", "ls", *mine).split():
        docker("network", "rm", name)


@contextmanager
def block_device(file: Path, mebibytes: int) -> Iterator[str]:
    """A block device of that size, in a file."""
    with file.open("wb") as image:
        image.truncate(mebibytes * 2**20)
    device = run("losetup", "--find", "--show", str(file)).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextmanager
def serving(folder: Path, network: str, address: str, *command: str) -> Iterator[None]:
    """A container that serves a folder at an address of a network."""
    name = docker(
        *("run", "--detach", "--label", LABEL, "--network", network, "--ip", address),
        *("--volume", f"{folder}:/folder:ro", "python:3.13-slim-trixie", *command),
    ).strip()
    try:
        yield
    finally:
        docker("rm", "--force", "--volumes", name)


@dataclass
class Machine:
    """The instance; `user_data` and `metadata` are folders: for cloud-init, and of what its metadata say."""

    user_data: Path
    metadata: Path
    device: str
    volume_id: str
    network: str
    metadata_network: str
    aws_endpoint_url: str
    name: str = field(default_factory=lambda: f"{LABEL}-{uuid.uuid4().hex[:8]}")

    @contextmanager
    def running(self, address: str) -> Iterator[None]:
        """Create the machine; it is removed at the end."""
        group = Path("/sys/fs/cgroup/unified")
        settings = {
            "CONTROL_GROUP": self.name,
            "VOLUME_DEVICE": self.device,
            "VOLUME_SERIAL": self.volume_id.replace("-", ""),
            "AWS_ENDPOINT_URL": self.aws_endpoint_url,
        }
        self._write_address(address)
        docker(
            *("create", "--name", self.name, "--label", LABEL, "--hostname", "ip-10-0-0-10"),
            # systemd has to mount, and so has the machine. Not SYS_RESOURCE, which not every host has.
            *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
            *(
                option
                for part in ("seccomp", "apparmor", "systempaths")
                for option in ("--security-opt", f"{part}=unconfined")
            ),
            *(
                "--device",
                self.device,
                "--device-cgroup-rule",
                "b 7:* rwm",
                "--tmpfs",
                "/run",
                "--tmpfs",
                "/run/lock",
            ),
            *("--volume", f"{self.user_data}:/var/lib/cloud/seed/nocloud:ro"),
            *(
                "--cgroupns",
                "host",
                "--volume",
                f"{group if group.exists() else group.parent}:/sys/fs/cgroup",
            ),
            *(option for name, value in settings.items() for option in ("--env", f"{name}={value}")),
            *("--network", self.network, "--ip", address, IMAGE),
        )
        try:
            docker("network", "connect", self.metadata_network, self.name)
            docker("start", self.name)
            yield
        finally:
            docker("rm", "--force", "--volumes", self.name)

    def reboot(self, address: str, **metadata: str) -> None:
        """Stop and start it, with another address, like EC2."""
        docker("stop", "--time", "60", self.name)
        docker("network", "disconnect", self.network, self.name)
        self._write_address(address, **metadata)
        docker("network", "connect", "--ip", address, self.network, self.name)
        docker("start", self.name)

    def _write_address(self, address: str, **metadata: str) -> None:
        folder = self.metadata / "meta-data"
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in ({"public-ipv4": address, "local-ipv4": address} | metadata).items():
            (folder / name).write_text(value)

    def shell(self, command: str, check: bool = True) -> str:
        """Run a command on it, as root."""
        return docker("exec", self.name, "bash", "-c", command, check=check)

    def journal(self) -> str:
        """The logs that explain a failure."""
        return self.shell(
            "systemctl --failed --no-pager; tail -n 30 /var/log/cloud-init-output.log", check=False
        ) + self.shell(
            "journalctl --no-pager --unit 'kafka*' --unit zookeeper | grep -v INFO | tail -n 120", check=False
        )


def build_image() -> None:
    run("docker", "build", "--quiet", "--tag", IMAGE, str(INSTANCE))


def write_metadata(folder: Path, region: str) -> None:
    """The metadata of an instance with a role, without its addresses."""
    role = "lakefeed-kafka"
    credentials = {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": "test",
        "SecretAccessKey": "test",
        "Token": "test",
        "Expiration": "2099-01-01T00:00:00Z",
        "LastUpdated": "2025-01-01T00:00:00Z",
    }
    items = {
        "meta-data/local-hostname": "ip-10-0-0-10.ec2.internal",
        "meta-data/placement/region": region,
        f"meta-data/iam/security-credentials/{role}": json.dumps(credentials),
    }
    for path, content in items.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
