"""Counts what is in a bucket of the local AWS, which answers requests that are not signed as well."""

from __future__ import annotations

import gzip
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote, urlencode
from xml.etree import ElementTree


def fetch(address: str) -> bytes:
    """The body of an answer to a GET request.

    Raises:
        OSError: there is none.
    """
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - the address of a program of this run
        body: bytes = answer.read()
        return body


def keys(bucket: str, prefix: str) -> Iterator[str]:
    """The keys under a prefix.

    Args:
        bucket: the bucket's address.
        prefix: what the keys begin with.
    """
    after = ""
    while True:
        query = urlencode({"list-type": "2", "prefix": prefix, "start-after": after})
        page = ElementTree.fromstring(fetch(f"{bucket}?{query}"))  # noqa: S314 - it is MiniStack's
        for key in page.iterfind("./{*}Contents/{*}Key"):
            after = key.text or ""
            yield after
        if page.findtext("./{*}IsTruncated") != "true":
            return


def count_lines(bucket: str, key: str) -> int:
    """How many events a batch object holds: one on each line."""
    return gzip.decompress(fetch(f"{bucket}/{quote(key)}")).count(b"\n")
