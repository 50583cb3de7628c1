"""Puts many objects into the local AWS without the cost of boto3."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit


def put_all(endpoint_url: str, account: str, bucket: str, keys: Iterable[str]) -> None:
    """Store one small document under each key; the local AWS checks no signature."""
    credential = f"Credential={account}/20260101/us-east-1/s3/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=, Signature="}
    with closing(HTTPConnection(urlsplit(endpoint_url).netloc)) as http:
        for key in keys:
            http.request("PUT", f"/{bucket}/{key}", b'{"id": 1}', headers)
            with http.getresponse() as answer:
                answer.read()
                assert answer.status == 200, answer.status
