"""What the broker reports at one moment."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from lakefeed_common.lake.records import Partition


@dataclass(frozen=True)
class BrokerSnapshot:
    """Topics, and the offsets of the partitions that were asked for.

    Attributes:
        topics: names of all topics that this user may see.
        starts, ends: first offset, and the one after the last, of each partition.
        positions: offset to fetch next, of each partition.
        join_refused: error code of the coordinator's last response to JoinGroup if it was fatal, else 0.
    """

    topics: Collection[str]
    starts: dict[Partition, int]
    ends: dict[Partition, int]
    positions: dict[Partition, int]
    join_refused: int = field(default=0, kw_only=True)
