"""The log of calls: who called which action with what."""

from __future__ import annotations

import json
import re
from typing import Any, TextIO
from urllib.parse import parse_qs
from xml.sax.saxutils import unescape

from lakefeed_local.ministack.asgi import App, Receive, Scope, Send, credential, header, read_body, replay

# DeleteObjects: `POST /bucket?delete`.
_DELETE = re.compile(rb"(^|&)delete(=|&|$)")
_KEY = re.compile(rb"<Key>(.*?)</Key>", re.DOTALL)


class CallLog:
    """An app that writes each signed call to a file, a JSON object a line, and passes it on."""

    def __init__(self, app: App, file: TextIO) -> None:
        self._app = app
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Log and pass on one request; what is not signed is no call of AWS's API."""
        signed = credential(scope) if scope["type"] == "http" else None
        if signed is not None:
            target = header(scope, "x-amz-target").rpartition(".")[2]
            data: Any = {}
            if target:
                body = await read_body(receive)
                receive = replay(body, receive)
                data = json.loads(body or b"{}")
            elif _DELETE.search(scope.get("query_string", b"")):
                # What it deletes is in the body alone.
                body = await read_body(receive)
                receive = replay(body, receive)
                data = {"Keys": [unescape(key.decode()) for key in _KEY.findall(body)]}
            call = {
                "access_key": signed.access_key,
                "region": signed.region,
                "service": signed.service,
                "method": scope["method"],
                "path": scope["path"],
                "query": parse_qs(scope.get("query_string", b"").decode(), keep_blank_values=True),
                "target": target,
                "body": data,
            }
            self._file.write(json.dumps(call) + "\n")
        await self._app(scope, receive, send)
