"""Checks whether a topic would keep records as they were: pure rules over its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

_DAY_MS = 86_400_000
_UNLIMITED = -1


def day_ms(day: str) -> int:
    """The first millisecond of a UTC day since 1970."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def blocking(topic: str, config: Mapping[str, str], oldest_ms: int, now_ms: int) -> Iterator[str]:
    """Why records cannot be restored into a topic: what is wrong, and what to do.

    Args:
        topic: its name.
        config: its configuration by name; what is missing is not checked.
        oldest_ms: no record is older.
        now_ms: the time now.
    """
    if config.get("message.timestamp.type") == "LogAppendTime":
        yield (
            f"the topic {topic} has message.timestamp.type=LogAppendTime: the broker would replace all "
            f"timestamps. {_alter(topic, 'message.timestamp.type=CreateTime')}"
        )
    if "compact" in config.get("cleanup.policy", ""):
        yield (
            f"the topic {topic} has cleanup.policy={config['cleanup.policy']}: compaction would delete all "
            f"but the latest record of each key. {_alter(topic, 'cleanup.policy=delete')}"
        )
    for name in ("message.timestamp.before.max.ms", "message.timestamp.difference.max.ms"):
        limit = int(config.get(name, 2**63 - 1))
        if now_ms - oldest_ms > limit:
            yield (
                f"the topic {topic} has {name}={limit}: it would refuse records of {_day(oldest_ms)}. "
                f"{_alter(topic, f'{name}={2**63 - 1}')}"
            )


def deleting(
    topic: str, config: Mapping[str, str], oldest_ms: int, now_ms: int, largest_bytes: int
) -> Iterator[str]:
    """Why the broker would soon delete restored records.

    Args:
        topic, config, oldest_ms, now_ms: see `blocking`.
        largest_bytes: size of the objects of the largest partition.
    """
    retention_ms = int(config.get("retention.ms", _UNLIMITED))
    if retention_ms != _UNLIMITED and now_ms - oldest_ms > retention_ms:
        yield (
            f"the topic {topic} has retention.ms={retention_ms} ({retention_ms / _DAY_MS:,.1f} days): it "
            f"would delete records of {_day(oldest_ms)} at once. {_alter(topic, 'retention.ms=-1')}"
        )
    retention_bytes = int(config.get("retention.bytes", _UNLIMITED))
    if retention_bytes != _UNLIMITED and largest_bytes > retention_bytes:
        yield (
            f"the topic {topic} has retention.bytes={retention_bytes}, and the objects of one partition have "
            f"{largest_bytes:,} bytes: it would delete the first ones. {_alter(topic, 'retention.bytes=-1')}"
        )


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def _alter(topic: str, change: str) -> str:
    topic = f"--entity-type topics --entity-name {topic}"
    return f"Change it: kafka-configs.sh --alter {topic} --add-config {change}"
