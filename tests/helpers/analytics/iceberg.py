"""Compactions in processes of their own, to be killed, and what their tables contain."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Collection, Mapping
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakefeed_analytics.iceberg.accept import Accept
from lakefeed_analytics.iceberg.compact import Done
from lakefeed_analytics.iceberg.files import place_of
from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.iceberg.work import Run
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.settings import load

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Forks of a process that has imported everything and has no threads yet.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


def compact(
    settings: CompactSettings,
    topic: str,
    committed: Mapping[int, int],
    run: Run | None = None,
    accept: Collection[Accept] = (),
) -> Done:
    """Compact in this process; `run` and `accept` as of `connect`."""
    done = Done()
    with connect(settings, topic, run=run, accept=frozenset(accept)) as parts:
        parts.compactor.run(committed, lambda _: None, done, {})
    return done


def _compact_until(
    environment: dict[str, str], topic: str, committed: dict[int, int], killed_at: int | None
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    count, writes = 0, False

    def writing(**_: Any) -> None:
        nonlocal writes
        writes = True

    def step() -> None:
        nonlocal count
        count += writes
        if count == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    with connect(load(CompactSettings), topic, step) as parts:
        # Before it writes, a kill changes nothing.
        parts.s3.meta.events.register_first("before-send.s3.PutObject", writing)
        parts.compactor.run(committed, lambda _: None, Done(), {})


def started(
    settings: Mapping[str, str], topic: str, committed: dict[int, int], killed_at: int | None = None
) -> BaseProcess:
    """A compaction in another process, which kills itself when it has begun to write.

    Args:
        killed_at: before (odd) or after (even) which of its requests from then on.
    """
    environment = {**os.environ, **settings}
    process = _PROCESSES.Process(target=_compact_until, args=(environment, topic, committed, killed_at))
    process.start()
    return process


def read_table(s3: S3Client, settings: CompactSettings, topic: str) -> pa.Table:
    """All rows of the current snapshot, as Parquet has them; none if there is no table."""
    with connect(settings, topic) as parts:
        state = parts.table.load()
        if state is None:
            return pa.table({})
        snapshot = state.table.current_snapshot()
        files: list[Any] = [
            entry.data_file
            for manifest in (snapshot.manifests(state.table.io) if snapshot else ())
            for entry in manifest.fetch_manifest_entry(state.table.io)
        ]
    tables = []
    for file in files:
        bucket, key = place_of(file.file_path)
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        tables.append(pq.read_table(io.BytesIO(body)))
        assert file.record_count == len(tables[-1])
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


def offsets(table: pa.Table) -> Counter[tuple[int, int]]:
    """How often each partition and offset is in a table."""
    if not table.num_rows:
        return Counter()
    return Counter((row["kafka_partition"], row["kafka_offset"]) for row in table.to_pylist())


def expected(*ranges: tuple[int, int, int]) -> Counter[tuple[int, int]]:
    """Each offset of partition, start and end once."""
    return Counter((number, offset) for number, start, end in ranges for offset in range(start, end))
