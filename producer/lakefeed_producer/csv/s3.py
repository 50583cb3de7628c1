"""Downloads CSV files from S3: a file is read twice, so it is copied first."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Self

from boto3.exceptions import RetriesExceededError

from lakefeed_common.aws import client, explained
from lakefeed_common.errors import InputError, MissingError, SettingsError, UnavailableError
from lakefeed_common.settings import AwsSettings, load
from lakefeed_producer.csv.file_names import safe_file_name

_SCHEME = "s3://"
_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """An object in S3; `name`, the last part of its key, becomes the file's name."""

    bucket: str
    key: str
    name: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse `s3://BUCKET/KEY`.

        Raises:
            SettingsError: it does not name an object.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None or match[2].endswith(("/", "/.", "/..")) or match[2] in (".", ".."):
            raise SettingsError(
                f"{text} is not the address of a CSV file in S3. Give bucket and key: s3://bucket/folder/prices.csv"
            )
        return cls(match[1], match[2], PurePosixPath(match[2]).name)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"


@contextmanager
def local_copies(
    names: Sequence[str], say: Callable[[str], None], beat: Callable[[], None]
) -> Iterator[list[Path]]:
    """Provide all files by path; objects in S3 are copied for the lifetime of the context.

    Copies are in `TMPDIR` and keep the object's name and time of modification.

    Args:
        names: paths, and addresses of objects in S3.
        say: called with a line for each download.
        beat: called often; may raise to stop.

    Raises:
        SettingsError: an address does not name an object; nothing has been downloaded.
        MissingError: the bucket or the key does not exist.
        RefusedError: there are no credentials, or they do not allow reading the object.
        UnavailableError: S3 is unreachable.
        InputError: the copy cannot be written.
    """
    addresses = {name: Address.of(name) for name in names if name.startswith(_SCHEME)}
    settings = load(AwsSettings)
    s3 = client("s3", settings)
    with TemporaryDirectory(prefix="lakefeed-") as folder:
        copies = {}
        for number, (name, address) in enumerate(addresses.items()):
            # Two buckets may have files of one name.
            copies[name] = Path(folder, str(number), safe_file_name(address.name))
            try:
                with explained(settings, f"reading {address}", service="s3"):
                    _copy(s3, address, copies[name], say, beat)
            except MissingError as error:
                raise MissingError(f"{str(error).removesuffix('.')}. Check the bucket and the key") from error
            except RetriesExceededError as error:
                raise UnavailableError(
                    f"reading {address}: the download failed several times ({error}). Try again; "
                    "nothing was sent"
                ) from error
            except OSError as error:
                raise InputError(
                    f"{address} cannot be copied to {folder}: {error.strerror}. "
                    "Set TMPDIR to a folder with enough free space"
                ) from error
        yield [copies.get(name) or Path(name) for name in names]


def _copy(
    s3: Any, address: Address, path: Path, say: Callable[[str], None], beat: Callable[[], None]
) -> None:
    # Unlike the transfer's first request, its error distinguishes a missing bucket from a missing key.
    found = s3.get_object(Bucket=address.bucket, Key=address.key)
    found["Body"].close()
    say(f"downloading {address}, {found['ContentLength']:,} bytes")
    path.parent.mkdir()
    s3.download_file(address.bucket, address.key, str(path), Callback=lambda _: beat())
    # The file's time determines how far back the topic is searched for an earlier publication.
    modified = found["LastModified"].timestamp()
    os.utime(path, (modified, modified))
