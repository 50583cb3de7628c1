"""The instance of infra/modules/kafka-ec2, from its user data on, until a client outside publishes to it."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from lakefeed_local.aws import LocalAws
from lakefeed_local.settings import LocalSettings
from tests.helpers.infra import machine as machines
from tests.helpers.infra import terraform_aws
from tests.helpers.infra.machine import Machine, docker, run
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
ADDRESS, NEXT_ADDRESS = "198.51.100.10", "198.51.100.20"
# The local AWS gives this one out; what runs is the machine's own image.
AMI = "ami-0123456789abcdef0"
PREFIX = "/lakefeed-kafka"

pytestmark = pytest.mark.timeout(1200)


@dataclass
class Cloud:
    """The local AWS, and the variables with which programs of this computer find it."""

    endpoint_url: str
    environment: dict[str, str]

    def client(self, service: str) -> Any:
        # Its type has one overload a service.
        make: Any = boto3.client
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return make(service, endpoint_url=self.endpoint_url, region_name=REGION, **keys)

    def parameter(self, name: str) -> str:
        found = self.client("ssm").get_parameter(Name=f"{PREFIX}/{name}", WithDecryption=True)
        return str(found["Parameter"]["Value"])


@dataclass
class Release:
    """Kafka's release, as the machine downloads it."""

    url: str
    sha256: str


@dataclass
class Instance:
    """What the module has made, and the machine that runs it."""

    machine: Machine
    outputs: dict[str, Any]
    folder: Path
    environment: dict[str, str]

    def eval(self, output: str, then: str = ":") -> subprocess.CompletedProcess[str]:
        """Run an output of the module as its user does, in a folder like the project."""
        return subprocess.run(
            ["bash", "-c", f'eval "$1" && {then}', "-", self.outputs[output]],
            cwd=self.folder,
            env=self.environment,
            timeout=300,
            capture_output=True,
            text=True,
            check=False,
        )

    def exported(self) -> dict[str, str]:
        """The environment after `settings_command`."""
        done = self.eval("settings_command", then="env -0")
        assert done.returncode == 0, done.stderr
        return dict(entry.partition("=")[::2] for entry in done.stdout.split("\0") if entry)

    def client_settings(self) -> dict[str, str]:
        """The same as librdkafka's settings."""
        exported = self.exported()
        return {
            "bootstrap.servers": exported["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"],
            "security.protocol": exported["LAKEFEED_KAFKA_SECURITY_PROTOCOL"],
            "sasl.mechanism": exported["LAKEFEED_KAFKA_SASL_MECHANISM"],
            "sasl.username": exported["LAKEFEED_KAFKA_SASL_USERNAME"],
            "sasl.password": exported["LAKEFEED_KAFKA_SASL_PASSWORD"],
            "ssl.ca.location": exported["LAKEFEED_KAFKA_SSL_CA_FILE"],
        }


@pytest.fixture(scope="module")
def networks() -> Iterator[tuple[str, str]]:
    machines.build_image()
    with machines.networks() as names:
        yield names


@pytest.fixture(scope="module")
def cloud(networks: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    settings = LocalSettings(local_host=machines.GATEWAY)
    folder = tmp_path_factory.mktemp("aws")
    with LocalAws(folder, settings=settings, launcher=terraform_aws.LAUNCHER) as aws:
        own = {"AWS_ENDPOINT_URL": aws.endpoint_url, "AWS_REGION": REGION}
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        yield Cloud(aws.endpoint_url, {**os.environ, **own, **keys})


@pytest.fixture(scope="module")
def release(networks: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The very jars of Kafka's image, packed as Apache packs a release."""
    folder = tmp_path_factory.mktemp("release")
    container = docker("create", "--label", machines.LABEL, "apache/kafka:3.9.1", "true").strip()
    try:
        docker("cp", "--quiet", f"{container}:/opt/kafka", str(folder / "kafka_2.13-3.9.1"))
    finally:
        docker("rm", "--volumes", container)
    archive = folder / "kafka_2.13-3.9.1.tgz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder / "kafka_2.13-3.9.1", arcname="kafka_2.13-3.9.1")
    shutil.rmtree(folder / "kafka_2.13-3.9.1")
    folder.chmod(0o755)
    serve = ("python3", "-m", "http.server", "--directory", "/folder", "80")
    with machines.serving(folder, networks[0], machines.MIRROR_ADDRESS, *serve):
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        yield Release(f"http://{machines.MIRROR_ADDRESS}/{archive.name}", digest)


@pytest.fixture(scope="module")
def applied(
    cloud: Cloud, release: Release, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """`terraform show -json` of the module by itself, applied to the local AWS."""
    folder = tmp_path_factory.mktemp("terraform")
    for part in ("infra", "broker"):
        shutil.copytree(
            ROOT / part, folder / part, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*")
        )
    module = folder / "infra" / "modules" / "kafka-ec2"
    ec2 = cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone=f"{REGION}a")["Subnet"]
    variables = {
        "subnet_id": subnet["SubnetId"],
        "ami_id": AMI,
        "allowed_cidrs": [machines.NETWORK],
        "topic_partitions": 3,
        "kafka_heap_mib": 256,
        "final_snapshot": False,
        "kafka_archive": {"url": release.url, "sha256": release.sha256},
    }
    (module / "terraform.tfvars.json").write_text(json.dumps(variables))

    def terraform(*arguments: str) -> str:
        return run("terraform", f"-chdir={module}", *arguments, environment=cloud.environment)

    plugins = os.environ.get("TF_PLUGIN_DIR")
    terraform("init", "-input=false", *([f"-plugin-dir={plugins}"] if plugins else []))
    terraform("apply", "-input=false", "-auto-approve")
    try:
        yield json.loads(terraform("show", "-json"))["values"]
    finally:
        terraform("destroy", "-input=false", "-auto-approve")


def resource(applied: dict[str, Any], address: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        entry["values"] for entry in applied["root_module"]["resources"] if entry["address"] == address
    )
    return found


@pytest.fixture(scope="module")
def new_machine(
    networks: tuple[str, str], cloud: Cloud, applied: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """The machine with the metadata that the instance gets; it is not started."""
    metadata = tmp_path_factory.mktemp("metadata")
    metadata.chmod(0o755)
    instance = resource(applied, "aws_instance.this")
    volume = resource(applied, "aws_ebs_volume.data")
    machines.write_metadata(metadata, REGION)
    user_data = tmp_path_factory.mktemp("user-data")
    (user_data / "user-data").write_bytes(base64.b64decode(instance["user_data_base64"]))
    (user_data / "meta-data").write_text(f"instance-id: {instance['id']}\n")
    serve = ("python3", "-c", (ROOT / "tests" / "helpers" / "infra" / "metadata.py").read_text(), "/folder")
    with (
        machines.serving(metadata, networks[1], machines.METADATA_ADDRESS, *serve),
        machines.block_device(metadata.with_name("volume"), 512) as device,
    ):
        yield Machine(user_data, metadata, device, volume["id"], *networks, cloud.endpoint_url)


@pytest.fixture(scope="module")
def instance(
    new_machine: Machine, cloud: Cloud, applied: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    """The instance after its first boot, ready."""
    folder = tmp_path_factory.mktemp("project")
    (folder / ".venv").symlink_to(Path(sys.prefix))
    shutil.copytree(ROOT / "data", folder / "data")
    # AWS's command line tool of the machine, for a computer that has none; with the rights of who calls it.
    names = " ".join(f"--env {name}" for name in cloud.environment if name.startswith("AWS_"))
    program = folder / "bin" / "aws"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec docker exec {names} {new_machine.name} aws "$@"\n')
    program.chmod(0o755)
    environment = {**cloud.environment, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    outputs = {name: entry["value"] for name, entry in applied["outputs"].items()}
    with new_machine.running(ADDRESS):
        one = Instance(new_machine, outputs, folder, environment)
        wait_ready(one, cloud, ADDRESS)
        yield one


def wait_ready(instance: Instance, cloud: Cloud, address: str) -> None:
    """Until the broker has said that it is ready at that address."""

    def ready() -> bool:
        failed = instance.machine.shell("systemctl is-failed cloud-final", check=False)
        assert failed.strip() != "failed", instance.machine.journal()
        return cloud.parameter("bootstrap-servers") == f"{address}:9092"

    wait_for(ready, timeout=700, message=instance.machine.journal, every=1)


def read_topic(settings: dict[str, str], topic: str = "demo_testing") -> list[dict[str, Any]]:
    """Every event of the topic."""
    consumer = Consumer({**settings, "group.id": "outside", "enable.auto.commit": False})
    found: list[dict[str, Any]] = []
    try:
        partitions = list(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=30)[1] for n in partitions]
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        while len(found) < sum(ends):
            messages = consumer.consume(1000, timeout=20)
            assert messages, f"{len(found)} of {sum(ends)} records within 20 s"
            for message in messages:
                assert message.error() is None, message.error()
                found.append(json.loads(message.value() or b""))
    finally:
        consumer.close()
    return found


def sample() -> list[tuple[str, str, float]]:
    """Ticker, day and close of the rows of the sample, sorted."""
    with (ROOT / "data" / "prices.csv").open(newline="") as file:
        return sorted((row["Ticker"], row["Date"], float(row["Close"])) for row in csv.DictReader(file))


def test_the_publish_command_publishes_from_outside_and_all_can_be_read_back(
    instance: Instance, cloud: Cloud
) -> None:
    waited = instance.eval("wait_command")
    assert (waited.returncode, waited.stdout.strip()) == (0, cloud.parameter("bootstrap-servers"))
    done = instance.eval("publish_command")
    assert done.returncode == 0, done.stderr + instance.machine.journal()
    events = read_topic(instance.client_settings())
    assert sorted((event["ticker"], event["date"], event["close"]) for event in events) == sample()


def test_what_is_published_is_answered_by_athena(instance: Instance, cloud: Cloud, tmp_path: Path) -> None:
    """Consumer and analytics run on this computer, the broker on the instance, the lake in AWS."""
    bucket = "lake-behind-the-instance"
    cloud.client("s3").create_bucket(Bucket=bucket)
    assert instance.eval("publish_command").returncode == 0
    settings = instance.exported() | {"LAKEFEED_BUCKET": bucket, "LAKEFEED_CRAWL_POLL_SECONDS": "1"}

    def analytics(*arguments: str) -> str:
        program = Path(sys.executable).with_name("lakefeed-analytics")
        return run(str(program), *arguments, environment=settings)

    with Service("consumer", "run", log=tmp_path / "log", **settings) as consumer:
        consumer.wait_ready()
        wait_for(
            lambda: consumer.metric("lakefeed_consumer_objects_total", outcome="stored") >= len(sample()),
            timeout=120,
            message=lambda: consumer.log,
            every=0.5,
        )
        analytics("crawl")
        sql = 'SELECT ticker, "date", close FROM demo_testing'
        answer = analytics("query", sql, "--limit", "0", "--format", "csv")
    stored = [
        (row["ticker"], row["date"], float(row["close"])) for row in csv.DictReader(answer.splitlines())
    ]
    assert sorted(stored) == sample()


def test_the_topic_has_the_partitions_that_were_asked_for(instance: Instance) -> None:
    consumer = Consumer({**instance.client_settings(), "group.id": "outside"})
    try:
        assert len(consumer.list_topics("demo_testing", timeout=30).topics["demo_testing"].partitions) == 3
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sasl.password": "wrong"}, "_AUTHENTICATION"),
        ({"security.protocol": "PLAINTEXT"}, "_ALL_BROKERS_DOWN"),
        ({"security.protocol": "SASL_PLAINTEXT"}, "_ALL_BROKERS_DOWN"),
        # The system's authorities do not know the broker's.
        ({"ssl.ca.location": "probe"}, "_SSL"),
    ],
    ids=["wrong password", "no TLS, no password", "no TLS", "another authority"],
)
def test_who_comes_otherwise_is_refused(instance: Instance, change: dict[str, str], said: str) -> None:
    errors: list[str] = []
    settings: dict[str, Any] = {
        **instance.client_settings(),
        **change,
        "group.id": "stranger",
        "log_level": 0,
    }
    consumer = Consumer({**settings, "error_cb": lambda error: errors.append(error.name())})
    try:

        def refused() -> bool:
            # Errors are reported while it polls.
            consumer.poll(0.2)
            return said in errors

        wait_for(refused, 60, lambda: f"{said}: {errors}")
        with pytest.raises(KafkaException):
            consumer.list_topics(timeout=3)
    finally:
        consumer.close()


def test_only_kafka_listens_to_the_network(instance: Instance) -> None:
    """Neither ZooKeeper nor the listener without a password can be reached from elsewhere."""
    listening = instance.machine.shell("ss --numeric --listening --tcp --no-header --processes")
    java = [line.split()[3] for line in listening.splitlines() if '"java"' in line]
    loopback = ("127.0.0.1:", "[::ffff:127.0.0.1]:", "[::1]:")
    assert {address.rpartition(":")[2] for address in java if not address.startswith(loopback)} == {"9092"}
    assert {address.rpartition(":")[2] for address in java} >= {"2181", "29092"}
    for port in (2181, 29092):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((ADDRESS, port), timeout=5)


def test_secrets_are_created_on_the_instance_and_kept_in_parameter_store_only(
    instance: Instance, cloud: Cloud, applied: dict[str, Any]
) -> None:
    password = cloud.parameter("password")
    stored = cloud.client("ssm").get_parameter(Name=f"{PREFIX}/password")["Parameter"]
    assert len(password) == 48
    assert stored["Type"] == "SecureString"
    assert password not in stored["Value"]
    user_data = gzip.decompress(base64.b64decode(resource(applied, "aws_instance.this")["user_data_base64"]))
    assert password.encode() not in user_data
    assert b"PRIVATE KEY" not in user_data
    assert password not in instance.machine.shell("journalctl --no-pager; cat /var/log/cloud-init*.log")
    readable = instance.machine.shell("find /var/lib/kafka/tls /etc/lakefeed -name '*.key' -perm /077")
    assert readable == ""


@pytest.mark.parametrize("unit", ["kafka", "zookeeper"])
def test_a_killed_service_comes_back(instance: Instance, unit: str) -> None:
    before = instance.machine.shell(f"systemctl show --property MainPID --value {unit}").strip()
    instance.machine.shell(f"systemctl kill --signal KILL {unit}")

    def serves() -> bool:
        now = instance.machine.shell(f"systemctl show --property MainPID --value {unit}").strip()
        if (
            now in (before, "0")
            or instance.machine.shell("systemctl is-active kafka", check=False).strip() != "active"
        ):
            return False
        try:
            return len(read_topic(instance.client_settings())) >= 0
        except KafkaException:
            return False

    wait_for(serves, timeout=180, message=instance.machine.journal, every=1)


def test_a_second_installation_changes_nothing(instance: Instance, cloud: Cloud) -> None:
    state = "stat --format %Y /opt/kafka/.sha256; systemctl show --property MainPID --value kafka"
    before = instance.machine.shell(state), cloud.parameter("password")
    instance.machine.shell("lakefeed-kafka install")
    assert (instance.machine.shell(state), cloud.parameter("password")) == before


def test_a_volume_with_something_else_on_it_is_left_alone(instance: Instance, tmp_path: Path) -> None:
    with machines.block_device(tmp_path / "volume", 32) as device:
        run("mkfs.ext4", "-q", "-L", "photographs", device)
        before = Path(device).read_bytes()
        number = Path(device).stat().st_rdev
        serial = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_volforeign"
        instance.machine.shell(f"mknod -m 600 {serial} b {os.major(number)} {os.minor(number)}")
        # As on a machine to which this volume is attached; nothing of it is seen by the running services.
        said = instance.machine.shell(
            "sed s/VOLUME_ID=.*/VOLUME_ID=vol-foreign/ /etc/lakefeed/kafka.env > /tmp/foreign.env;"
            "unshare --mount bash -c '"
            "umount /var/lib/kafka; mount --bind /tmp/foreign.env /etc/lakefeed/kafka.env;"
            "lakefeed-kafka mount"
            "' 2>&1; echo exit code $?",
            check=False,
        )
        instance.machine.shell(f"rm {serial}")
        assert "the volume vol-foreign is neither empty nor Kafka's" in said
        assert "photographs" in said
        assert said.rstrip().endswith("exit code 1")
        assert Path(device).read_bytes() == before


# The last one: the name that the broker has then leads nowhere from here.
def test_after_a_reboot_with_a_new_address_all_is_as_before(instance: Instance, cloud: Cloud) -> None:
    """Events, password and authority stay; address and certificate are new, and the name is in it."""
    name = "ec2-198-51-100-20.compute-1.amazonaws.com"
    instance.eval("publish_command")
    before = sorted(json.dumps(event, sort_keys=True) for event in read_topic(instance.client_settings()))
    kept = cloud.parameter("password"), cloud.parameter("ca-certificate")
    assert before

    instance.machine.reboot(NEXT_ADDRESS)
    wait_ready(instance, cloud, NEXT_ADDRESS)
    assert (cloud.parameter("password"), cloud.parameter("ca-certificate")) == kept
    after = read_topic(instance.client_settings())
    assert sorted(json.dumps(event, sort_keys=True) for event in after) == before

    # With a DNS name, as in a VPC that gives them, the name is advertised, and the certificate is for both.
    instance.machine.reboot(NEXT_ADDRESS, **{"public-hostname": name})
    wait_ready(instance, cloud, name)
    trusted = ssl.create_default_context(cadata=kept[1])
    for host in (name, NEXT_ADDRESS):
        with socket.create_connection((NEXT_ADDRESS, 9092), timeout=20) as connection:
            trusted.wrap_socket(connection, server_hostname=host).close()
