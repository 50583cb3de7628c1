"""PyIceberg's files in S3, through this project's own client: one place for endpoints and credentials.

Nothing is ever deleted here. PyIceberg deletes the files of a commit that it takes for failed, which makes
the table unreadable if the commit arrived all the same; files that nothing refers to are removed by their
age.
"""

from __future__ import annotations

import io
import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.typedef import EMPTY_DICT, Properties

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

CLIENT = "lakefeed.s3"
"""Property of the catalogue that holds the S3 client."""


def place_of(location: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    return bucket, key


class S3Files(FileIO):
    """Files in S3; metadata and manifests, which fit into memory."""

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        self._s3 = cast("S3Client", properties[CLIENT])

    def new_input(self, location: str) -> InputFile:
        """A file to read."""
        return _Input(self._s3, location)

    def new_output(self, location: str) -> OutputFile:
        """A file to write."""
        return _Output(self._s3, location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Keep the file; see the module."""
        log.debug("Left for maintain: %s", location if isinstance(location, str) else location.location)


class _Input(InputFile):
    def __init__(self, s3: S3Client, location: str) -> None:
        super().__init__(location)
        self._s3 = s3
        self._bucket, self._key = place_of(location)

    def __len__(self) -> int:
        return int(self._s3.head_object(Bucket=self._bucket, Key=self._key)["ContentLength"])

    def exists(self) -> bool:
        return _exists(self._s3, self._bucket, self._key)

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002, FBT001, FBT002 - PyIceberg's names
        answer: Any = self._s3.get_object(Bucket=self._bucket, Key=self._key)
        with closing(answer["Body"]) as stream:
            return cast("InputStream", io.BytesIO(stream.read()))


class _Output(OutputFile):
    def __init__(self, s3: S3Client, location: str) -> None:
        super().__init__(location)
        self._s3 = s3
        self._bucket, self._key = place_of(location)
        self._size: int | None = None

    def __len__(self) -> int:
        return len(_Input(self._s3, self.location)) if self._size is None else self._size

    def exists(self) -> bool:
        return _exists(self._s3, self._bucket, self._key)

    def to_input_file(self) -> InputFile:
        return _Input(self._s3, self.location)

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: FBT001, FBT002 - PyIceberg's name
        def put(body: bytes) -> None:
            condition: Any = {} if overwrite else {"IfNoneMatch": "*"}
            self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=body, **condition)
            self._size = len(body)

        return cast("OutputStream", _Buffer(put))


class _Buffer(io.BytesIO):
    """What is written, put when it is closed."""

    def __init__(self, put: Any) -> None:
        super().__init__()
        self._put = put

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            super().close()
            return
        self.close()

    def close(self) -> None:
        if not self.closed:
            self._put(self.getvalue())
        super().close()


def _exists(s3: S3Client, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
            return False
        raise
    return True
