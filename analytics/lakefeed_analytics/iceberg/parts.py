"""Wires what compacts a topic: AWS clients, table and source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakefeed_analytics.catalogue import GlueCatalogue
from lakefeed_analytics.edge import explained
from lakefeed_analytics.iceberg.accept import Accept
from lakefeed_analytics.iceberg.columns import Columns, can_be_column, from_glue
from lakefeed_analytics.iceberg.compact import Compactor
from lakefeed_analytics.iceberg.source import CONNECTIONS
from lakefeed_analytics.iceberg.table import LakeTable
from lakefeed_analytics.iceberg.work import LocalWork, Run, SpreadWork
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common import aws
from lakefeed_common.errors import MissingError
from lakefeed_common.lake.lines import KAFKA_FIELD

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class TopicParts:
    """What works on the Iceberg table of one topic."""

    topic: str
    table: LakeTable
    compactor: Compactor
    s3: S3Client


@contextmanager
def connect(
    settings: CompactSettings,
    topic: str,
    attempt: Callable[[], None] = lambda: None,
    progress: Callable[[], None] = lambda: None,
    run: Run | None = None,
    accept: frozenset[Accept] = frozenset(),
) -> Iterator[TopicParts]:
    """Create the parts for a topic; connections are closed at the end. No request is sent yet.

    `attempt` is called before and after each attempt of a call to AWS, in the calling thread, and `progress`
    while a file is uploaded. `run` runs the work of a commit in other processes; by default it is done here.
    `accept` is what does not end a compaction.
    """
    with ExitStack() as held:
        with explained(settings, "preparing to call AWS"):
            s3 = aws.client("s3", settings, attempt=attempt, connections=CONNECTIONS + 4)
            held.enter_context(closing(s3))
            # If a commit arrives and its answer is lost, a second attempt would be refused.
            glue = aws.client("glue", settings, attempt=attempt, attempts=1)
            held.enter_context(closing(glue))
        table = LakeTable(glue, s3, settings, topic)

        def first_types() -> Columns:
            """The columns of the table that a crawler has made of the objects, if there is one."""
            try:
                raw = GlueCatalogue(glue, settings).table(settings.raw_table(topic))
            except MissingError:
                return {}
            return {
                each.name: from_glue(each.type)
                for each in raw.columns
                if not each.partition and each.name != KAFKA_FIELD and can_be_column(each.name)
            }

        here = LocalWork.of(s3, settings, topic, progress)
        compactor = Compactor(
            table,
            here.source,
            here if run is None else SpreadWork(settings, topic, run),
            settings.compact_commit_bytes,
            first_types,
            accept,
        )
        yield TopicParts(topic, table, compactor, s3)
