"""S3 and Glue for a crawl: AWS's own protocol, in MiniStack's process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from lakefeed_common.errors import RefusedError
from lakefeed_local.crawl.layout import Stored
from lakefeed_local.ministack.asgi import App, Credential, Response, request

_XMLNS = "{http://s3.amazonaws.com/doc/2006-03-01/}"


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
        response = await self._request("glue", "POST", "/", "", headers, json.dumps(data).encode())
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
            response = await self._s3("GET", f"/{bucket}", urlencode(query))
            page = ElementTree.fromstring(response.body)  # noqa: S314 - it is MiniStack's
            for entry in page.iter(f"{_XMLNS}Contents"):
                after = entry.findtext(f"{_XMLNS}Key", "")
                yield Stored(after, int(entry.findtext(f"{_XMLNS}Size", "0")))
            if page.findtext(f"{_XMLNS}IsTruncated") != "true":
                return

    async def read(self, bucket: str, key: str, size: int) -> bytes:
        """The first bytes of an object."""
        return (await self._s3("GET", f"/{bucket}/{key}", "", {"range": f"bytes=0-{size - 1}"})).body

    async def _s3(
        self, method: str, path: str, query: str, headers: dict[str, str] | None = None
    ) -> Response:
        response = await self._request("s3", method, path, query, headers or {}, b"")
        if response.status >= 300:
            error = ElementTree.fromstring(response.body)  # noqa: S314 - it is MiniStack's
            raise RefusedError(f"{method} s3:/{path}: {error.findtext('Code')}: {error.findtext('Message')}")
        return response

    async def _request(
        self, service: str, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> Response:
        signed = Credential(self._account, self._region, service).header()
        given = {"host": "localhost", "authorization": signed, **headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 80),
        }
        # MiniStack answers without a wait of its own: others get their turn, and a crawl can be stopped.
        await asyncio.sleep(0)
        return await request(self._app, scope, body)
