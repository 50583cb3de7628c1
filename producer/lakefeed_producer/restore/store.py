"""Where objects are read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from lakefeed_producer.restore.objects import Listed


@dataclass(frozen=True)
class Fetched:
    """An object.

    Attributes:
        metadata: names without `x-amz-meta-`.
        body: empty if only the metadata was asked for.
    """

    metadata: Mapping[str, str]
    body: bytes = b""


class Store(Protocol):
    """A bucket. Thread-safe; each call may raise a `LakefeedError`."""

    def list(self, folder: str) -> Iterator[Listed]:
        """The objects whose keys begin with `folder`."""

    def head(self, key: str) -> Fetched:
        """An object without its body."""

    def get(self, key: str) -> Fetched:
        """A whole object."""
