"""The local AWS keeps what it is given, apart from others, and is patched only as the launcher knows it."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from lakefeed_local import aws as local_aws
from lakefeed_local.aws import LocalAws
from lakefeed_local.settings import LocalSettings

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


def test_objects_come_back(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b.json", Body=b"{}")

    assert s3.get_object(Bucket=bucket, Key="a/b.json")["Body"].read() == b"{}"


def test_a_key_is_created_once_when_asked_so(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a.json", Body=b"1", IfNoneMatch="*")

    with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="a.json", Body=b"2", IfNoneMatch="*")


def test_an_instance_that_is_asked_for_again_with_its_token_is_the_same(aws: str) -> None:
    asked = {"ImageId": "ami-12345678", "MinCount": 1, "MaxCount": 1}
    with closing(boto3.Session(region_name="us-east-1").client("ec2", endpoint_url=aws)) as ec2:
        answers = [ec2.run_instances(**asked, ClientToken=token) for token in ("a", "a", "b")]
    first, again, other = (answer["Instances"][0]["InstanceId"] for answer in answers)
    assert first == again != other


def test_a_restart_keeps_objects_and_catalogue(own_aws: LocalAws) -> None:
    with clients(own_aws, "s3", "glue") as (s3, glue):
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="a.json", Body=b"{}")
        glue.create_database(DatabaseInput={"Name": "kept"})
        glue.create_crawler(Name="kept", Role="lakefeed", DatabaseName="kept", Targets={})
        glue.start_crawler(Name="kept")

    own_aws.stop()
    own_aws.start()

    with clients(own_aws, "s3", "glue") as (s3, glue):
        assert s3.get_object(Bucket="kept", Key="a.json")["Body"].read() == b"{}"
        assert glue.get_database(Name="kept")["Database"]["Name"] == "kept"
        crawler = glue.get_crawler(Name="kept")["Crawler"]
        assert (crawler["State"], crawler["LastCrawl"]["Status"]) == ("READY", "FAILED")


def test_two_side_by_side_do_not_meet(shared_aws: str, own_aws: LocalAws) -> None:
    assert own_aws.endpoint_url != shared_aws
    name = f"apart-{uuid.uuid4().hex[:12]}"
    with clients(own_aws, "s3") as (s3,):
        s3.create_bucket(Bucket=name)
    # The same account as there.
    session = boto3.Session("test", "test", region_name="us-east-1")
    with closing(session.client("s3", endpoint_url=shared_aws)) as s3:
        assert name not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}


def test_a_crawler_at_work_cannot_be_changed(own_aws: LocalAws) -> None:
    with clients(own_aws, "glue") as (glue,):
        glue.create_crawler(Name="c", Role="lakefeed", DatabaseName="lake", Targets={})
        glue.start_crawler(Name="c")

        for change in (glue.delete_crawler, glue.update_crawler):
            with pytest.raises(glue.exceptions.CrawlerRunningException):
                change(Name="c")
        glue.stop_crawler(Name="c")
        with pytest.raises(glue.exceptions.CrawlerNotRunningException):
            glue.stop_crawler(Name="c")
        assert glue.list_crawls(CrawlerName="c")["Crawls"][0]["State"] == "STOPPED"
        glue.delete_crawler(Name="c")


# Each in a child, after what costs: MiniStack's own imports.
_LAUNCHES = """
import importlib.metadata, os, runpy, sys
from ministack import app
from ministack.services import athena, ec2, glue
for difference in sys.argv[2:]:
    if not (child := os.fork()):
        exec(difference)
        runpy.run_path(sys.argv[1], run_name="__main__")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_the_launcher_refuses_another_ministack() -> None:
    refused = {
        "del glue._start_crawler": "MiniStack has no glue._start_crawler as 1.",
        "glue._stop_crawler = lambda: None": "MiniStack has no glue._stop_crawler as 1.",
        "importlib.metadata.version = lambda _: '9.9'": "made for MiniStack 1.5.33, found 9.9",
    }
    python = local_aws.environment(LocalSettings().cache)
    launcher = Path(local_aws.__file__).with_name("ministack_launcher.py")

    ended = subprocess.run(
        [python, "-c", _LAUNCHES, str(launcher), *refused],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert ended.stdout.split() == ["1"] * len(refused)
    for message in refused.values():
        assert message in ended.stderr
