"""The local AWS keeps what it is given, apart from others, and is patched only as the launcher knows it."""

from __future__ import annotations

import json
import subprocess
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


def test_a_restart_keeps_objects_and_catalogue(tmp_path: Path) -> None:
    with LocalAws(tmp_path) as local, clients(local, "s3", "glue") as (s3, glue):
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="a.json", Body=b"{}")
        glue.create_database(DatabaseInput={"Name": "lake"})
        glue.create_crawler(Name="c", Role="lakefeed", DatabaseName="lake", Targets={})
        glue.start_crawler(Name="c")

    with LocalAws(tmp_path) as local, clients(local, "s3", "glue") as (s3, glue):
        assert s3.get_object(Bucket="kept", Key="a.json")["Body"].read() == b"{}"
        assert glue.get_database(Name="lake")["Database"]["Name"] == "lake"
        crawler = glue.get_crawler(Name="c")["Crawler"]
        assert (crawler["State"], crawler["LastCrawl"]["Status"]) == ("READY", "FAILED")


def test_two_side_by_side_do_not_meet(shared_aws: str, tmp_path: Path) -> None:
    with LocalAws(tmp_path) as local, clients(local, "s3") as (s3,):
        assert local.endpoint_url != shared_aws
        assert s3.list_buckets()["Buckets"] == []


def test_a_crawler_at_work_cannot_be_changed(tmp_path: Path) -> None:
    with LocalAws(tmp_path) as local, clients(local, "glue") as (glue,):
        glue.create_crawler(Name="c", Role="lakefeed", DatabaseName="lake", Targets={})
        glue.start_crawler(Name="c")

        for change in (glue.delete_crawler, glue.update_crawler):
            with pytest.raises(glue.exceptions.CrawlerRunningException):
                change(Name="c")
        glue.stop_crawler(Name="c")
        with pytest.raises(glue.exceptions.CrawlerNotRunningException):
            glue.stop_crawler(Name="c")
        assert glue.list_crawls(CrawlerName="c")["Crawls"][0]["State"] == "STOPPED"


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ("del glue._start_crawler", "MiniStack has no glue._start_crawler as 1."),
        ("glue._stop_crawler = lambda: None", "MiniStack has no glue._stop_crawler as 1."),
        ("importlib.metadata.version = lambda _: '9.9'", "made for MiniStack 1.5.33, found 9.9"),
    ],
)
def test_the_launcher_refuses_another_ministack(difference: str, message: str) -> None:
    python = local_aws.environment(LocalSettings().cache)
    launcher = Path(local_aws.__file__).with_name("ministack_launcher.py")
    code = (
        "import importlib.metadata, runpy\nfrom ministack.services import glue\n"
        f"{difference}\nrunpy.run_path({json.dumps(str(launcher))}, run_name='__main__')"
    )

    ended = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert message in ended.stderr
