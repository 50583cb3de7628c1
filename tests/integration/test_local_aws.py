"""The local AWS keeps its state, apart from that of others, and refuses a MiniStack it is not adapted to."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from lakefeed_local import aws as local_aws
from lakefeed_local.aws import LocalAws
from lakefeed_local.settings import LocalSettings
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@contextmanager
def clients(local: LocalAws, *services: str) -> Iterator[list[Any]]:
    session = boto3.Session("test", "test", region_name="us-east-1")
    with ExitStack() as opened:
        yield [
            opened.enter_context(closing(session.client(service, endpoint_url=local.endpoint_url)))  # type: ignore[call-overload]
            for service in services
        ]


def test_an_object_can_be_read_back(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b.json", Body=b"{}")

    assert s3.get_object(Bucket=bucket, Key="a/b.json")["Body"].read() == b"{}"


def test_a_conditional_put_creates_a_key_once(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a.json", Body=b"1", IfNoneMatch="*")

    with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="a.json", Body=b"2", IfNoneMatch="*")


def test_a_restart_keeps_objects_and_catalogue(own_aws: LocalAws) -> None:
    with clients(own_aws, "s3", "glue") as (s3, glue):
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="a.json", Body=b"{}")
        glue.create_database(DatabaseInput={"Name": "kept"})
        glue.create_crawler(Name="kept", Role="lakefeed", DatabaseName="kept", Targets={})
        glue.start_crawler(Name="kept")
        wait_for(lambda: glue.get_crawler(Name="kept")["Crawler"]["State"] == "READY")

    own_aws.stop()
    own_aws.start()

    with clients(own_aws, "s3", "glue") as (s3, glue):
        assert s3.get_object(Bucket="kept", Key="a.json")["Body"].read() == b"{}"
        assert glue.get_database(Name="kept")["Database"]["Name"] == "kept"
        crawler = glue.get_crawler(Name="kept")["Crawler"]
        assert (crawler["State"], crawler["LastCrawl"]["Status"]) == ("READY", "FAILED")
        assert "DeleteBehavior" in crawler["LastCrawl"]["ErrorMessage"]
        assert len(glue.list_crawls(CrawlerName="kept")["Crawls"]) == 1


def test_two_instances_are_independent(shared_aws: str, own_aws: LocalAws) -> None:
    assert own_aws.endpoint_url != shared_aws
    name = f"apart-{uuid.uuid4().hex[:12]}"
    with clients(own_aws, "s3") as (s3,):
        s3.create_bucket(Bucket=name)
    # The same account as there.
    session = boto3.Session("test", "test", region_name="us-east-1")
    with closing(session.client("s3", endpoint_url=shared_aws)) as s3:
        assert name not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}


# Each in a child process: MiniStack's own imports take most of the time.
_INSTALLS = """
import importlib.metadata, os, sys
sys.path.extend(sys.argv[1].split(os.pathsep))
from ministack.services import athena, glue
from lakefeed_local.ministack import engine
for difference in sys.argv[2:]:
    if not (child := os.fork()):
        exec(difference)
        try:
            engine.install(duck=None)
        except engine.UnknownVersionError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_another_ministack_is_refused() -> None:
    refused = {
        "del athena._table_relation": "MiniStack lacks athena._table_relation",
        "athena._table_relation = lambda table: None": "MiniStack lacks athena._table_relation",
        "del glue._partitions": "glue._partitions of 1.",
        "engine.version = lambda _: '9.9'": "needs MiniStack 1.5.33, found 9.9",
    }
    python = local_aws.environment(LocalSettings().cache)

    ended = subprocess.run(
        [python, "-P", "-c", _INSTALLS, os.pathsep.join(local_aws.PACKAGES), *refused],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    said = ended.stdout.splitlines()
    assert len(said) == len(refused), ended.stderr
    for message, line in zip(refused.values(), said, strict=True):
        assert message in line
