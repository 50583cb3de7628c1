"""Fetches the CSV files of S3 that `publish` is given: a file is read twice, so it must lie here."""

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
from botocore.exceptions import BotoCoreError, ClientError

from lakefeed_common.aws import client, explain
from lakefeed_common.errors import InputError, LakefeedError, MissingError, SettingsError, UnavailableError
from lakefeed_common.settings import AwsSettings, load
from lakefeed_producer.source import usable_name

_SCHEME = "s3://"
_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """An object of S3; `name` is the last part of its key, and so the file's."""

    bucket: str
    key: str
    name: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Take `s3://BUCKET/KEY` apart.

        Raises:
            SettingsError: it names no object.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None or match[2].endswith(("/", "/.", "/..")) or match[2] in (".", ".."):
            raise SettingsError(
                f"{text} names no CSV file in S3. Give bucket and key, such as s3://bucket/folder/prices.csv"
            )
        return cls(match[1], match[2], PurePosixPath(match[2]).name)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"


@contextmanager
def fetched(
    names: Sequence[str], say: Callable[[str], None], go_on: Callable[[], None]
) -> Iterator[list[Path]]:
    """The files by path; what an `s3://` address names is copied for as long as the context lasts.

    Copies lie in `TMPDIR` and keep their names, and the time at which the object got its content.

    Args:
        names: paths and addresses.
        say: is told what is fetched.
        go_on: called often; may raise to break off.

    Raises:
        SettingsError: an address names no object; found before anything is fetched.
        MissingError: there is no such bucket or key.
        RefusedError: there are no credentials, or they do not allow it.
        UnavailableError: S3 does not answer.
        InputError: there is no place for the copy.
    """
    addresses = {name: Address.of(name) for name in names if name.startswith(_SCHEME)}
    settings = load(AwsSettings)
    s3 = client("s3", settings)
    with TemporaryDirectory(prefix="lakefeed-") as folder:
        copies = {}
        for number, (name, address) in enumerate(addresses.items()):
            # Two buckets may have files of one name.
            copies[name] = Path(folder, str(number), usable_name(address.name))
            try:
                _copy(s3, address, copies[name], say, go_on)
            except (BotoCoreError, ClientError) as error:
                raise _told(error, settings, address) from error
            except RetriesExceededError as error:
                raise UnavailableError(
                    f"reading {address}: the answer broke off several times ({error}). Try again; "
                    "nothing was sent"
                ) from error
            except OSError as error:
                raise InputError(
                    f"{address} cannot be kept in {folder}: {error.strerror}. "
                    "Set TMPDIR to a folder with enough room"
                ) from error
        yield [copies.get(name) or Path(name) for name in names]


def _copy(
    s3: Any, address: Address, path: Path, say: Callable[[str], None], go_on: Callable[[], None]
) -> None:
    # Unlike the transfer's own first request, its error tells a missing bucket from a missing key.
    found = s3.get_object(Bucket=address.bucket, Key=address.key)
    found["Body"].close()
    say(f"fetching {address}, {found['ContentLength']:,} bytes")
    path.parent.mkdir()
    s3.download_file(address.bucket, address.key, str(path), Callback=lambda _: go_on())
    # How far back the topic is read for a publication of this file depends on its time.
    modified = found["LastModified"].timestamp()
    os.utime(path, (modified, modified))


def _told(error: BotoCoreError | ClientError, settings: AwsSettings, address: Address) -> LakefeedError:
    told = explain(error, settings, f"reading {address}", service="s3")
    if isinstance(told, MissingError):
        return MissingError(f"{str(told).removesuffix('.')}. Check the bucket and the key")
    return told
