"""Makes records from what aiokafka has fetched, without a record of aiokafka's own in between.

That one costs an event as much as checking its JSON.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.structs import TopicPartition

from lakefeed_common.lake.records import Partition, Record


class FetchedRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """Iterates over the records of one partition in a response to a fetch."""

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Record:
        timestamp = record.timestamp
        fields = (
            _partition(tp),
            record.offset,
            # Records of message format 0 have no timestamp.
            -1 if timestamp is None else timestamp,
            record.key,
            record.value,
            tuple(record.headers),
        )
        # Half the time of calling a named tuple, whose own `__new__` is a Python function.
        return tuple.__new__(Record, fields)


@lru_cache(maxsize=1024)
def _partition(tp: TopicPartition) -> Partition:
    return Partition(*tp)


def install() -> None:
    """Let aiokafka's fetcher make these records, in the whole process."""
    fetcher.PartitionRecords = FetchedRecords
