"""Reads objects from S3 with boto3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lakefeed_common.aws import client, explained
from lakefeed_common.errors import UnavailableError
from lakefeed_common.settings import AwsSettings, load
from lakefeed_producer.restore.objects import Listed
from lakefeed_producer.restore.store import Fetched


class S3Store:
    """One bucket.

    Args:
        bucket: its name.
        connections: requests at a time.
    """

    def __init__(self, bucket: str, connections: int) -> None:
        self._bucket = bucket
        self._settings = load(AwsSettings)
        self._s3 = client("s3", self._settings, connections=connections)

    def list(self, folder: str) -> Iterator[Listed]:
        """The objects whose keys begin with `folder`; see `Store`."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=folder)
        with self._explained(folder):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Listed(found["Key"], found["Size"])

    def head(self, key: str) -> Fetched:
        """An object without its body; see `Store`."""
        return self._call(key, lambda: Fetched(self._s3.head_object(**self._place(key))["Metadata"]))

    def get(self, key: str) -> Fetched:
        """A whole object; see `Store`."""

        def read() -> Fetched:
            found = self._s3.get_object(**self._place(key))
            return Fetched(found["Metadata"], found["Body"].read())

        return self._call(key, read)

    def _place(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": key}

    def _call(self, key: str, call: Callable[[], Fetched]) -> Fetched:
        with self._explained(key):
            return call()

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        doing = f"reading s3://{self._bucket}/{key}"
        try:
            with explained(self._settings, doing, service="s3"):
                yield
        except OSError as error:  # while the body is read
            raise UnavailableError(f"{doing}: {error}. Run the same command again to resume") from error
