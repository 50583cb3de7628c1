"""The S3 servers of the benchmarks: SeaweedFS, and nginx, which answers each put immediately.

Both count the puts they have answered, so that no figure depends on the consumer's own counters.
"""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from string import Template
from typing import Protocol

from benchmarks.programs import nginx_modules
from lakefeed_local.process import Child
from tests.helpers.seaweed import SeaweedS3, access
from tests.helpers.services import free_port

BUCKET = "bench"
_CONFIG = Path(__file__).with_name("nginx.conf")
_START_SECONDS = 15.0
_UPLOADED = re.compile(rf'^SeaweedFS_s3_uploaded_objects\{{bucket="{BUCKET}"\}} (\S+)$', re.MULTILINE)
_ENTRY = re.compile(r'"newEntry":\s*\{\s*"name":\s*"(?P<name>[^"]+)"|"tsNs":\s*"(?P<time>\d+)"')
# The filer's log is read only up to this long ago, so that reading ends.
_SETTLED_SECONDS = 1.0
_READ_SECONDS = 60.0


class Store(Protocol):
    """An S3 server with the bucket `BUCKET`.

    Attributes:
        name: for the report.
        environment: AWS's variables for clients.
        look_seconds: an interval of calls of `stored` that does not disturb the measurement.
    """

    name: str
    environment: dict[str, str]
    look_seconds: float

    def stored(self) -> int:
        """The number of puts so far; only differences are meaningful."""


class Instant:
    """nginx, which answers every put with success."""

    name = "instant server"
    look_seconds = 0.04

    def __init__(self, port: int) -> None:
        self.environment = access(f"http://127.0.0.1:{port}")
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._looks = 0

    def stored(self) -> int:
        """See `Store.stored`; a consumer's check of its bucket at startup counts as well."""
        self._looks += 1
        self._connection.request("GET", "/requests")
        page = self._connection.getresponse().read()
        # The third number in the third line: requests, including this one.
        return int(page.split(b"\n")[2].split()[2]) - self._looks

    def serves(self) -> bool:
        """Whether it answers."""
        try:
            self._connection.connect()
        except OSError:
            return False
        return True


class Seaweed:
    """SeaweedFS, which stores."""

    name = "SeaweedFS"
    look_seconds = 0.25

    def __init__(self, server: SeaweedS3) -> None:
        self.environment = access(server.endpoint_url)
        self._server = server

    def stored(self) -> int:
        """See `Store.stored`."""
        connection = http.client.HTTPConnection("127.0.0.1", self._server.metrics_port, timeout=10)
        with closing(connection):
            connection.request("GET", "/metrics")
            found = _UPLOADED.search(connection.getresponse().read().decode())
        return int(float(found[1])) if found else 0

    def born(self, prefix: str, since: float) -> dict[str, int]:
        """When the objects under a prefix were created: nanoseconds since 1970, by the last part of the key.

        Read afterwards from the filer's change log: the time at which the filer had the entry, by this
        machine's clock, without polling.

        Args:
            prefix: of the keys, a whole folder.
            since: how far back to read, as returned by `time.time()`.
        """
        time.sleep(_SETTLED_SECONDS)
        options = {
            "filer": self._server.filer,
            "pathPrefix": f"/buckets/{BUCKET}/{prefix}/",
            "timeAgo": f"{time.time() - since + _START_SECONDS:.0f}s",  # it counts from its own start
            "untilTimeAgo": f"{_SETTLED_SECONDS}s",
        }
        weed = Path(sys.executable).with_name("weed")
        log = subprocess.run(
            [str(weed), "filer.meta.tail", *(f"-{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=_READ_SECONDS,
        ).stdout
        found: dict[str, int] = {}
        name = ""
        for match in _ENTRY.finditer(log):
            if match["name"]:
                name = match["name"]
            elif name.endswith(".json"):
                found.setdefault(name, int(match["time"]))
        return found


@contextmanager
def instant(folder: Path) -> Iterator[Instant]:
    """nginx, running within the `with` block."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        Template(_CONFIG.read_text()).safe_substitute(
            folder=folder.absolute(), port=port, modules=nginx_modules()
        )
    )
    command = [str(shutil.which("nginx")), "-p", str(folder.absolute()), "-c", str(config.absolute())]
    child = Child("nginx", command, folder / "nginx.log", grace_seconds=3)
    try:
        store = Instant(port)
        child.wait_until(store.serves, _START_SECONDS)
        yield store
    finally:
        child.stop()


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """SeaweedFS with the bucket, running within the `with` block."""
    with SeaweedS3(folder) as server:
        server.client().create_bucket(Bucket=BUCKET)
        yield Seaweed(server)
