"""`lakefeed-producer publish s3://…` with a real broker and a local AWS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.publishing import publish, read

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CSV = b"name,price\nbolt,0.10\nnut,0.20\n"


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def test_an_object_is_published_once_under_its_own_name(
    kafka: str, topic: str, s3: S3Client, bucket: str, tmp_path: Path, temporary: Path
) -> None:
    s3.put_object(Bucket=bucket, Key="incoming/parts & bits.csv", Body=CSV)
    address = f"s3://{bucket}/incoming/parts & bits.csv"
    first = publish(tmp_path, address, kafka=kafka, topic=topic, TMPDIR=str(temporary))
    assert first.returncode == 0, first.stderr
    assert f"downloading {address}, {len(CSV)} bytes" in first.stderr
    assert "parts & bits.csv: 2 rows read, 2 events delivered" in first.stderr
    again = publish(tmp_path, address, kafka=kafka, topic=topic, TMPDIR=str(temporary))
    assert again.returncode == 0, again.stderr
    assert "parts & bits.csv is already published" in again.stderr
    records = read(kafka, topic)
    assert [value for _, value, _ in records] == [
        b'{"name":"bolt","price":0.10}',
        b'{"name":"nut","price":0.20}',
    ]
    assert {dict(headers)["source"] for _, _, headers in records} == {b"parts & bits.csv"}
    assert list(temporary.iterdir()) == []


def test_files_of_one_name_from_s3_and_from_disk(
    s3: S3Client, bucket: str, tmp_path: Path, temporary: Path
) -> None:
    s3.put_object(Bucket=bucket, Key="a/x.csv", Body=b"n\n1\n")
    s3.put_object(Bucket=bucket, Key="b/x.csv", Body=b"n\n2\n")
    (tmp_path / "x.csv").write_bytes(b"n\n3\n")
    addresses = [f"s3://{bucket}/a/x.csv", "x.csv", f"s3://{bucket}/b/x.csv"]
    done = publish(tmp_path, *addresses, "--dry-run", kafka="none:1", topic="none", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['{"n":1}', '{"n":3}', '{"n":2}']


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{bucket}/no-such.csv", "answered NoSuchKey"),
        ("{bucket}-other/x.csv", "answered NoSuchBucket"),
    ],
)
def test_a_missing_object_is_reported(bucket: str, tmp_path: Path, place: str, message: str) -> None:
    address = "s3://" + place.format(bucket=bucket)
    done = publish(tmp_path, address, kafka="none:1", topic="none")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: reading {address}: ")
    assert message in done.stderr
    assert done.stderr.endswith("Check the bucket and the key\n")


def test_missing_credentials_are_reported_with_advice(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    done = publish(tmp_path, "s3://bucket/x.csv", kafka="none:1", topic="none", HOME=str(tmp_path))
    assert done.returncode == 1
    assert "reading s3://bucket/x.csv: there are no AWS credentials" in done.stderr
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in done.stderr


@pytest.mark.parametrize(
    "address", ["s3://", "s3://bucket", "s3://bucket/", "s3://bucket/a/", "s3://B_/x.csv", "s3://bucket/.."]
)
def test_an_address_without_an_object_is_wrong_usage(tmp_path: Path, address: str) -> None:
    done = publish(tmp_path, address, kafka="none:1", topic="none")
    assert done.returncode == 2
    assert f"{address} is not the address of a CSV file in S3. Give bucket and key" in done.stderr


def test_a_key_may_be_longer_than_a_files_name(s3: S3Client, bucket: str, tmp_path: Path) -> None:
    address = f"s3://{bucket}/{'x' * 300}.csv"
    s3.put_object(Bucket=bucket, Key=f"{'x' * 300}.csv", Body=CSV + b"1,2,3,4,5,6,7,8,9\n")
    done = publish(tmp_path, address, "--dry-run", kafka="none:1", topic="none")
    assert done.returncode == 3, done.stderr
    [rejects] = tmp_path.glob("*.rejects.jsonl")
    assert json.loads(rejects.read_text())["path"] == address


def test_a_copy_that_cannot_be_written_is_reported(
    s3: S3Client, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakefeed_producer.csv.s3.safe_file_name", lambda _: "x" * 300)
    s3.put_object(Bucket=bucket, Key="x.csv", Body=CSV)
    done = publish(tmp_path, f"s3://{bucket}/x.csv", kafka="none:1", topic="none")
    assert done.returncode == 1
    assert "cannot be copied to" in done.stderr
    assert "File name too long" in done.stderr
