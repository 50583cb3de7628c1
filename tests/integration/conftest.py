"""A broker and a local AWS, one of each for all test processes.

Under pytest-xdist the first process that needs one starts it, and it stops when the last process has ended.
Each test has its own topic, bucket and AWS account, so that tests do not affect each other.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from lakefeed_local.aws import LocalAws
from lakefeed_local.broker import Broker
from tests.helpers.s3_proxy import S3Proxy
from tests.helpers.seaweed import SeaweedS3, access
from tests.helpers.secure_broker import SecureBroker
from tests.helpers.services import free_port
from tests.helpers.shared_servers import shared

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client

_REGION = "us-east-1"


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run have in common."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"


@pytest.fixture(scope="session")
def kafka(shared_folder: Path) -> Iterator[str]:
    """Bootstrap address of a broker that all tests share; do not stop it (see `own_kafka`).

    `LAKEFEED_TEST_KAFKA=host:port` names one that runs elsewhere.
    """
    if elsewhere := os.environ.get("LAKEFEED_TEST_KAFKA"):
        yield elsewhere
        return
    with shared("kafka", shared_folder) as address:
        yield address


@pytest.fixture(scope="session")
def secured(shared_folder: Path) -> Iterator[SecureBroker]:
    """A broker with TLS, passwords, tokens and rights that all tests share; do not stop it."""
    with shared("secured", shared_folder) as described:
        yield SecureBroker.at(described)


@pytest.fixture(scope="session")
def watched_kafka(shared_folder: Path) -> Iterator[tuple[str, str]]:
    """Bootstrap address of the shared broker, and where it serves its metrics."""
    with shared("kafka", shared_folder) as address:
        yield address, (shared_folder / "kafka" / "metrics").read_text()


@pytest.fixture(scope="session")
def process_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker behind `own_kafka`."""
    # While it is down, its ports must not go to an outgoing connection.
    folder = tmp_path_factory.mktemp("broker")
    with Broker(folder, kafka_port=free_port(), zookeeper_port=free_port()) as broker:
        yield broker


@pytest.fixture
def own_kafka(process_kafka: Broker) -> Broker:
    """A broker of this test process alone, to stop, kill and restart; it keeps earlier topics."""
    process_kafka.revive()
    return process_kafka


@pytest.fixture
def topic() -> str:
    """A topic's name that no other test has; the topic does not exist yet."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def shared_aws(shared_folder: Path) -> Iterator[str]:
    """Address of an AWS that all tests share."""
    with shared("aws", shared_folder) as address:
        yield address


@pytest.fixture(scope="session")
def _own_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """A local AWS of this test process alone, always on the same port."""
    with LocalAws(tmp_path_factory.mktemp("aws"), port=free_port()) as local:
        yield local


@pytest.fixture
def own_aws(_own_aws: LocalAws) -> LocalAws:
    """A local AWS to stop and restart; what earlier tests stored is in it."""
    if not _own_aws.running:
        _own_aws.start()
    return _own_aws


@pytest.fixture
def account() -> str:
    """Id of an AWS account that no other test has; the local AWS takes a key of twelve digits for one."""
    return f"{random.SystemRandom().randrange(10**12):012d}"


@pytest.fixture
def aws(shared_aws: str, account: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of the AWS; `AWS_…` variables lead there, into an account that no other test has."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", account)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", _REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", _REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", shared_aws)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return shared_aws


@pytest.fixture
def s3(aws: str) -> Iterator[S3Client]:
    """S3 in the test's account."""
    # A session of its own: the default one would keep another test's credentials.
    client = boto3.Session(region_name=_REGION).client("s3", endpoint_url=aws)
    yield client
    client.close()


@pytest.fixture
def glue(aws: str) -> Iterator[GlueClient]:
    """Glue in the test's account."""
    client = boto3.Session(region_name=_REGION).client("glue", endpoint_url=aws)
    yield client
    client.close()


@pytest.fixture
def athena(aws: str) -> Iterator[AthenaClient]:
    """Athena in the test's account."""
    client = boto3.Session(region_name=_REGION).client("athena", endpoint_url=aws)
    yield client
    client.close()


@pytest.fixture
def bucket(s3: S3Client) -> str:
    """A new bucket."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def consumer_settings(kafka: str, topic: str, bucket: str) -> dict[str, str]:
    """The consumer's environment, with waits short enough for a test."""
    return {
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_BUCKET": bucket,
        "LAKEFEED_CONSUMER_GROUP": f"group-{topic}",
        "LAKEFEED_COMMIT_INTERVAL_SECONDS": "0.2",
        "LAKEFEED_SESSION_TIMEOUT_SECONDS": "6",
        "LAKEFEED_RETRY_CAP_SECONDS": "0.5",
    }


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedS3]:
    """An S3 server that is fast, for tests with many objects; of this test process alone."""
    with SeaweedS3(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
def proxy(seaweed: SeaweedS3, tmp_path: Path) -> Iterator[S3Proxy]:
    """A proxy before that server, to let requests fail."""
    with S3Proxy(seaweed.port, (free_port(), free_port()), tmp_path / "proxy.log") as running:
        yield running


@pytest.fixture
def proxied(kafka: str, topic: str, seaweed: SeaweedS3, proxy: S3Proxy) -> dict[str, str]:
    """Settings of a consumer behind the proxy, with a bucket of its own that has the topic's name."""
    seaweed.client().create_bucket(Bucket=topic)
    return {
        **access(proxy.endpoint_url),
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_BUCKET": topic,
        "LAKEFEED_CONSUMER_GROUP": f"group-{topic}",
        "LAKEFEED_COMMIT_INTERVAL_SECONDS": "0.2",
        "LAKEFEED_SESSION_TIMEOUT_SECONDS": "6",
        "LAKEFEED_RETRY_CAP_SECONDS": "0.5",
    }
