"""The metadata of an instance, as EC2 serves it by IMDSv2: `python metadata.py FOLDER`, on port 80.

Files of the folder are served under `/latest/` and read for each request; a folder is listed.
"""

from __future__ import annotations

import http.server
import secrets
import sys
from pathlib import Path

_TOKENS: set[str] = set()


class Metadata(http.server.BaseHTTPRequestHandler):
    """One request."""

    folder: Path

    def do_PUT(self) -> None:
        lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        if not self.path.endswith("/api/token") or lifetime is None:
            return self._answer(400, b"")
        token = secrets.token_hex()
        _TOKENS.add(token)
        return self._answer(200, token.encode(), lifetime)

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") not in _TOKENS:
            return self._answer(401, b"")
        _, _, path = self.path.strip("/").partition("/")
        found = self.folder / path
        if found.is_dir():
            names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in found.iterdir())
            return self._answer(200, "\n".join(names).encode())
        return self._answer(200, found.read_bytes()) if found.is_file() else self._answer(404, b"")

    def _answer(self, status: int, body: bytes, lifetime: str | None = None) -> None:
        self.send_response(status)
        if lifetime is not None:
            self.send_header("X-aws-ec2-metadata-token-ttl-seconds", lifetime)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    Metadata.folder = Path(sys.argv[1])
    http.server.ThreadingHTTPServer(("", 80), Metadata).serve_forever()
