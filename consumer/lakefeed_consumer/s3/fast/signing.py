"""Signature Version 4 of a conditional put: what is the same within a second is computed once a second."""

from __future__ import annotations

import hmac
import re
import time
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import quote

_PLAIN_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]+")


class Keys(NamedTuple):
    """An access key, its secret, and the token of temporary keys."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return f"Keys({self.access_key})"


def request_path(key: str) -> str | None:
    """An object's key as part of a URL; None for a key that clients encode differently.

    Such a key has empty parts or parts of dots only, which a client or a proxy may remove.
    """
    folder, slash, name = key.rpartition("/")
    if not _PLAIN_NAME.fullmatch(name):
        return _quoted(key)
    if not slash:
        return name
    before = _quoted(folder)
    return None if before is None else f"{before}/{name}"


@lru_cache(maxsize=256)
def _quoted(path: str) -> str | None:
    if any(part in ("", ".", "..") for part in path.split("/")):
        return None
    return quote(path, safe="/~")


class _Metadata(NamedTuple):
    """How metadata with certain names is written.

    Attributes:
        values: picks the values from the metadata, in the order of their names.
        names: as they are signed.
        lines: one for each value, as it is signed.
    """

    values: Callable[[Mapping[str, str]], object]
    names: str
    lines: str


@lru_cache(maxsize=64)
def _metadata(names: tuple[str, ...]) -> _Metadata:
    fields = [f"x-amz-meta-{name}" for name in sorted(names)]
    return _Metadata(
        itemgetter(*sorted(names)),
        "".join(f";{field}" for field in fields),
        "".join(f"{field}:%s\n" for field in fields),
    )


class Signer:
    """Writes the headers of signed puts.

    Args:
        host: for the `Host` header, with the port unless it is the scheme's own.
        root: the path before the object's key, with both slashes.
        region: the bucket's.
    """

    def __init__(self, host: str, root: str, region: str) -> None:
        self._host = host
        self._root = root
        self._region = region
        self._second = -1
        self._keys: Keys | None = None

    def header(self, path: str, body: bytes, metadata: Mapping[str, str], keys: Keys, now: float) -> bytes:
        """The bytes of a request before its body.

        Args:
            path: see `request_path`.
            metadata: see `ObjectStore.create`.
            now: seconds since 1970; S3 accepts the request for 15 minutes from then.
        """
        second = int(now)
        if second != self._second or keys is not self._keys:
            self._prepare(second, keys)
        path = self._root + path
        hashed = sha256(body).digest()
        digest, checksum = hashed.hex(), b2a_base64(hashed, newline=False).decode()
        names, signed, sent_lines = "", "", ""
        if metadata:
            written = _metadata(tuple(metadata))
            names, signed = written.names, written.lines % written.values(metadata)
            sent_lines = signed.replace("\n", "\r\n")
        before, between, after, token, end = self._canonical
        request = f"PUT\n{path}{before}{checksum}{between}{digest}{after}{signed}{token}{names}{end}{digest}"
        sent, inner, outer = self._headers, self._inner.copy(), self._outer.copy()
        inner.update(sha256(request.encode()).hexdigest().encode())
        outer.update(inner.digest())
        return (
            f"PUT {path}{sent[0]}{checksum}{sent[1]}{digest}{sent[2]}{names}{sent[3]}{outer.hexdigest()}\r\n"
            f"{sent_lines}Content-Length: {len(body)}\r\n\r\n"
        ).encode()

    def _prepare(self, second: int, keys: Keys) -> None:
        """Compute what does not depend on the path or the body."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        day = stamp[:8]
        scope = f"{day}/{self._region}/s3/aws4_request"
        # A bucket with a default Object Lock rejects a put without a checksum; the hash is computed anyway.
        # Names of metadata sort between these and the token's.
        names = "host;if-none-match;x-amz-checksum-sha256;x-amz-content-sha256;x-amz-date"
        last_name, token, token_header = "", "", ""
        if keys.token is not None:
            last_name = ";x-amz-security-token"
            token = f"x-amz-security-token:{keys.token}\n"
            token_header = f"\r\nX-Amz-Security-Token: {keys.token}"
        self._canonical = (
            f"\n\nhost:{self._host}\nif-none-match:*\nx-amz-checksum-sha256:",
            "\nx-amz-content-sha256:",
            f"\nx-amz-date:{stamp}\n",
            f"{token}\n{names}",
            f"{last_name}\n",
        )
        self._headers = (
            f" HTTP/1.1\r\nHost: {self._host}\r\nIf-None-Match: *\r\nX-Amz-Date: {stamp}{token_header}"
            "\r\nX-Amz-Checksum-SHA256: ",
            "\r\nX-Amz-Content-SHA256: ",
            f"\r\nAuthorization: AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, "
            f"SignedHeaders={names}",
            f"{last_name}, Signature=",
        )
        key = f"AWS4{keys.secret_key}".encode()
        for part in (day, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        # The two hashes of an HMAC (RFC 2104): copying them costs half as much as copying the HMAC. What is
        # signed has the same beginning for the whole second.
        self._inner = sha256(bytes(byte ^ 0x36 for byte in key.ljust(64, b"\0")))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in key.ljust(64, b"\0")))
        self._inner.update(f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n".encode())
        self._second, self._keys = second, keys
