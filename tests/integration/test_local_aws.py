"""The local AWS keeps what it is given."""

from __future__ import annotations

from mypy_boto3_s3 import S3Client


def test_objects_come_back(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b.json", Body=b"{}")

    assert s3.get_object(Bucket=bucket, Key="a/b.json")["Body"].read() == b"{}"
