"""The fast client's signatures are botocore's, byte for byte."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed_consumer.s3.fast.signing import Keys, Signer, request_path
from lakefeed_consumer.s3.fast.store import host_header

HOST, REGION = "lake.s3.eu-central-1.amazonaws.com", "eu-central-1"
SIGNER = Signer(HOST, "/", REGION)

parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1)
parts = (parts | st.from_regex(r"[\w.!*'()=-]+", fullmatch=True)).filter(lambda each: each not in (".", ".."))
paths = st.lists(parts, min_size=1, max_size=5).map("/".join)
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
keys = st.builds(Keys, st.from_regex(r"[A-Z0-9]{16,20}", fullmatch=True), words, st.none() | words)
seconds = st.floats(0, 4e9)
names = st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True)
metadata = st.dictionaries(names, words | st.just(""), max_size=5)


def fields(head: bytes) -> dict[str, str]:
    lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def by_botocore(url: str, body: bytes, about: dict[str, str], signing: Keys, now: float) -> dict[str, str]:
    checksum = b64encode(sha256(body).digest()).decode()
    sent = {"If-None-Match": "*", "X-Amz-Checksum-SHA256": checksum}
    sent |= {f"x-amz-meta-{name}": value for name, value in about.items()}
    request = AWSRequest("PUT", url, headers=sent, data=body)
    request.context["payload_signing_enabled"] = True
    moment = datetime.fromtimestamp(int(now), UTC)
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr(auth, "get_current_datetime", lambda: moment)
        auth.S3SigV4Auth(Credentials(*signing), "s3", REGION).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(paths, st.binary(), metadata, keys, seconds)
def test_a_put_is_signed_as_botocore_signs_it(
    key: str, body: bytes, about: dict[str, str], signing: Keys, now: float
) -> None:
    path = request_path(key)
    assert path is not None
    head = SIGNER.header(path, body, about, signing, now)
    assert head.startswith(f"PUT /{path} HTTP/1.1\r\n".encode())
    assert head.endswith(b"\r\n\r\n")
    ours = fields(head)
    theirs = by_botocore(f"https://{HOST}/{path}", body, about, signing, now)
    assert ours.pop("host") == HOST
    assert int(ours.pop("content-length")) == len(body)
    assert ours == theirs
    assert ours["x-amz-content-sha256"] == sha256(body).hexdigest()


@given(paths)
def test_a_path_is_encoded_as_botocore_encodes_it(key: str) -> None:
    assert request_path(key) == percent_encode(key, safe="/~")


@settings(max_examples=40)
@given(st.lists(st.tuples(keys, seconds), min_size=2, max_size=6))
def test_cached_parts_belong_to_their_keys_and_second(
    sequence: list[tuple[Keys, float]],
) -> None:
    signer = Signer(HOST, "/", REGION)
    for put in (*sequence, *sequence):
        fresh = Signer(HOST, "/", REGION)
        assert signer.header("a", b"{}", {"n": "v"}, *put) == fresh.header("a", b"{}", {"n": "v"}, *put)


@given(st.lists(st.sampled_from(["", ".", "..", "a", "a.b"]), min_size=1, max_size=4))
def test_keys_that_urls_would_change_are_passed_on(found: list[str]) -> None:
    unusual = any(part in ("", ".", "..") for part in found)
    assert (request_path("/".join(found)) is None) == unusual


@pytest.mark.parametrize(
    ("netloc", "scheme", "expected"),
    [
        ("lake.s3.eu-central-1.amazonaws.com", "https", "lake.s3.eu-central-1.amazonaws.com"),
        ("store.test:443", "https", "store.test"),
        ("store.test:80", "http", "store.test"),
        ("store.test:80", "https", "store.test:80"),
        ("user:word@store.test:9000", "http", "store.test:9000"),
        ("[::1]:9000", "http", "[::1]:9000"),
    ],
)
def test_the_host_header_has_neither_a_user_nor_the_default_port(
    netloc: str, scheme: str, expected: str
) -> None:
    assert host_header(netloc, scheme) == expected


def test_the_secret_is_not_shown() -> None:
    assert not re.search("hidden|token", repr(Keys("AKIA", "hidden", "token")))
