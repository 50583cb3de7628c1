"""A run's compaction: two compactors at once, killed and stopped, with faults of S3 and of the catalogue.

Their S3 is the run's own server, behind a proxy of their own. Their catalogue is the local AWS's Glue, behind
another one: it refuses a commit that is based on another version of the table, as AWS does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import boto3

from lakefeed_local.aws import LocalAws
from tests.chaos.faults import inflict
from tests.chaos.schedule import COMMIT_FAULTS, TABLE_FAULTS, Step
from tests.chaos.table import read_rows
from tests.chaos.workers import Group, Program
from tests.helpers.s3_proxy import Faults, S3Proxy
from tests.helpers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, SeaweedS3, access
from tests.helpers.services import free_port

_COMPACTORS = 2
_DATABASE = "chaos"
_COMMIT = "AWSGlue.UpdateTable"
_FINAL_SECONDS = 900
_LATE_SECONDS = 30
_ORPHANS = str(Path(__file__).with_name("orphans.py"))
_COMMAND = str(Path(sys.executable).with_name("lakefeed-analytics"))


@dataclass(frozen=True)
class Compacted:
    """What a compaction came to.

    Attributes:
        rows: of the table.
        requests: requests to S3 and to the catalogue, by the step whose fault met them.
        ends: how the compactors' processes ended, and how often.
        slow_stops: compactors that did not end in order when all was calm again.
        orphans: files that killed and refused commits have left; removed before the table was read.
    """

    rows: list[dict[str, Any]]
    requests: Counter[str]
    ends: Counter[int]
    slow_stops: int
    orphans: int


class Compaction:
    """Two compactors of a topic, from `with` to the end of it.

    Args:
        store: where the topic's objects are.
        folder: for data and logs.
        settings: the run's settings; they say which topic, bucket and group.
        seed: repeats the choices of the proxies.
        late_seconds: how late late requests and answers are.
    """

    def __init__(
        self, store: SeaweedS3, folder: Path, settings: Mapping[str, str], seed: int, late_seconds: float
    ) -> None:
        self._store = store
        self._folder = folder
        self._settings = settings
        self._seed = seed
        self._late_seconds = late_seconds
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as held:
            enter = held.enter_context
            self._aws = enter(LocalAws(self._folder / "aws"))
            self._glue().create_database(DatabaseInput={"Name": _DATABASE})
            self._s3_proxy = enter(self._proxy("s3", self._store.port))
            self._glue_proxy = enter(self._proxy("glue", self._aws.port))
            environment = self._environment(self._s3_proxy.endpoint_url, self._glue_proxy.endpoint_url)
            self._group = Group(lambda number: self._compactor(number, environment), _COMPACTORS)
            held.callback(self._group.end)
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _proxy(self, name: str, port: int) -> S3Proxy:
        log = self._folder / f"compactor-{name}-proxy.log"
        return S3Proxy(port, (free_port(), free_port()), log, self._seed)

    def _compactor(self, number: int, environment: Mapping[str, str]) -> Program:
        log = self._folder / f"compactor-{number}.log"
        return Program([_COMMAND, "compact", "--every", "1s"], environment, log, cwd=self._folder)

    def _environment(self, s3: str, glue: str) -> dict[str, str]:
        return {
            **self._settings,
            "AWS_ENDPOINT_URL_S3": s3,
            "AWS_ENDPOINT_URL_GLUE": glue,
            "LAKEFEED_GLUE_DATABASE": _DATABASE,
            "LAKEFEED_HTTP_PORT": "0",
            # With one object per event, a kill must not cost all that was read since the begin.
            "LAKEFEED_COMPACT_COMMIT_BYTES": "1000000",
        }

    def _glue(self) -> Any:
        session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
        return session.client("glue", endpoint_url=self._aws.endpoint_url)

    def tend(self) -> None:
        """Start the compactors that are wanted and do not run."""
        self._group.tend()

    def steps(self) -> dict[str, Callable[[Step], Awaitable[str]]]:
        """How each step of a plan is taken, but for `commit_fault`: the caller provides for a commit."""
        return {
            "compactor_kill": lambda step: self._group.kill(step.share, step.seconds),
            "compactor_stop": lambda step: self._group.freeze(step.share, step.seconds),
            **dict.fromkeys(TABLE_FAULTS, self._table_fault),
        }

    async def commit_fault(self, step: Step) -> str:
        """Let commits to the catalogue fail, until one has."""
        kind = COMMIT_FAULTS[step.what]
        faults = Faults({kind: step.share}, self._late_seconds, mention=_COMMIT)
        await inflict(self._glue_proxy, faults, step.seconds)
        return f"for {step.share:.0%} of the commits"

    async def _table_fault(self, step: Step) -> str:
        kind = TABLE_FAULTS[step.what]
        await inflict(self._s3_proxy, Faults({kind: step.share}, self._late_seconds), step.seconds)
        return f"for {step.share:.0%} of the requests"

    async def finish(self) -> Compacted:
        """Stop the compactors, compact the rest without faults, remove orphan files, and read the table."""
        slow_stops = await self._group.stop()
        self._group.tend()
        await self._until_late_requests_have_come()
        environment = self._environment(self._store.endpoint_url, self._aws.endpoint_url)
        await self._run(environment, _COMMAND, "compact")
        orphans = await self._run(environment, sys.executable, "-P", _ORPHANS)
        table = self._glue().get_table(
            DatabaseName=_DATABASE, Name=f"{self._settings['LAKEFEED_TOPIC']}_iceberg"
        )
        location = table["Table"]["Parameters"]["metadata_location"]
        rows = await asyncio.to_thread(read_rows, location, access(self._store.endpoint_url))
        return Compacted(rows, self._requests(), self._group.ends(), slow_stops, int(orphans))

    async def _until_late_requests_have_come(self) -> None:
        """Wait for commits whose compactor is gone: what they do belongs to what is read back."""
        for proxy in (self._s3_proxy, self._glue_proxy):
            end = time.monotonic() + self._late_seconds + _LATE_SECONDS
            while (counts := proxy.counts())["came_late"] < counts["late_request"]:
                if time.monotonic() > end:
                    raise RuntimeError(f"a late request has not come: {counts}")
                await asyncio.sleep(0.5)

    def _requests(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for proxy, faults in ((self._glue_proxy, COMMIT_FAULTS), (self._s3_proxy, TABLE_FAULTS)):
            counts = proxy.counts()
            found.update({what: counts[kind] for what, kind in faults.items()})
        return found

    async def _run(self, environment: Mapping[str, str], *command: str) -> str:
        """Run a command to its end; returns what it prints."""
        log = self._folder / "compactor-final.log"
        with log.open("ab") as errors:
            done = await asyncio.to_thread(
                subprocess.run,
                command,
                env=dict(environment),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                timeout=_FINAL_SECONDS,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}: see {log}")
        return done.stdout.decode()
