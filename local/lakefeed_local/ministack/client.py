"""S3 and Glue for a crawl: AWS's own protocol, in MiniStack's process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from lakefeed_common.errors import RefusedError
from lakefeed_local.crawl.layout import Stored
from lakefeed_local.ministack.asgi import App, Credential, Response, Scope, request

_XMLNS = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def scope(self, more_headers: Mapping[str, str]) -> Scope:
        """The request in the form of ASGI."""
        headers = {**more_headers, **self.headers}
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": self.method,
            "path": self.path,
            "raw_path": quote(self.path).encode(),
            "query_string": self.query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 80),
        }


class Client:
    """Calls in one account and region.

    Every method raises `RefusedError` with AWS's code and message.

    Args:
        app: answers the calls.
        owner: account and region.
    """

    def __init__(self, app: App, owner: tuple[str, str]) -> None:
        self._app = app
        self._account, self._region = owner

    async def glue(self, action: str, **data: Any) -> dict[str, Any]:
        """Call an action of Glue."""
        headers = {"x-amz-target": f"AWSGlue.{action}", "content-type": "application/x-amz-json-1.1"}
        response = await self._send(
            "glue", _Request("POST", "/", headers=headers, body=json.dumps(data).encode())
        )
        answer: dict[str, Any] = json.loads(response.body or b"{}")
        if response.status != 200:
            raise RefusedError(f"{action}: {answer.get('__type')}: {answer.get('message')}")
        return answer

    async def glue_pages(self, action: str, **data: Any) -> AsyncIterator[dict[str, Any]]:
        """Call an action of Glue for all its pages."""
        page = await self.glue(action, **data)
        yield page
        while token := page.get("NextToken"):
            page = await self.glue(action, **data, NextToken=token)
            yield page

    async def objects(self, bucket: str, prefix: str) -> AsyncIterator[Stored]:
        """The objects whose keys begin with a prefix."""
        after = ""
        while True:
            query = {"list-type": "2", "prefix": prefix, "start-after": after}
            response = await self._s3(_Request("GET", f"/{bucket}", urlencode(query)))
            page = ElementTree.fromstring(response.body)  # noqa: S314 - it is MiniStack's
            for entry in page.iter(f"{_XMLNS}Contents"):
                after = entry.findtext(f"{_XMLNS}Key", "")
                yield Stored(after, int(entry.findtext(f"{_XMLNS}Size", "0")))
            if page.findtext(f"{_XMLNS}IsTruncated") != "true":
                return

    async def read(self, bucket: str, key: str, size: int) -> bytes:
        """The first bytes of an object."""
        asked = _Request("GET", f"/{bucket}/{key}", headers={"range": f"bytes=0-{size - 1}"})
        return (await self._s3(asked)).body

    async def _s3(self, asked: _Request) -> Response:
        response = await self._send("s3", asked)
        if response.status >= 300:
            error = ElementTree.fromstring(response.body)  # noqa: S314 - it is MiniStack's
            code, message = error.findtext("Code"), error.findtext("Message")
            raise RefusedError(f"{asked.method} s3:/{asked.path}: {code}: {message}")
        return response

    async def _send(self, service: str, asked: _Request) -> Response:
        signed = Credential(self._account, self._region, service).header()
        # MiniStack responds without waiting: this lets other requests run, and a crawl be stopped.
        await asyncio.sleep(0)
        return await request(
            self._app, asked.scope({"host": "localhost", "authorization": signed}), asked.body
        )
