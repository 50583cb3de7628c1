"""Every setting of the consumer."""

from __future__ import annotations

from typing import Literal

from lakefeed_common.settings import KafkaSettings, LakeSettings, ServiceSettings, setting


class ConsumerSettings(ServiceSettings, KafkaSettings, LakeSettings):
    """The consumer: which group reads the topic, and how its events are put into the bucket."""

    http_port: int = setting(
        8002, "Port on which metrics and health are served; 0 takes a free one.", ge=0, le=65535
    )
    consumer_group: str = setting(
        "lakefeed-consumer",
        "Consumer group; workers of one group share the topic's partitions.",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
    )
    s3_client: Literal["lean", "obstore"] = setting(
        "lean",
        "What puts the objects: `lean`, a client for this one request that leaves each doubt to obstore; or "
        "`obstore` alone.",
    )
    puts_in_flight: int = setting(
        256,
        "How many objects one worker puts at the same time at the most: with puts of 20 ms, 256 are 12,800 a "
        "second.",
        ge=1,
        le=10_000,
    )
    put_timeout_seconds: float = setting(
        30.0, "After this long without an answer a put is tried again.", unit="s", gt=0
    )
    retry_base_seconds: float = setting(
        0.1, "Longest wait before a put's first retry; it doubles with each one.", unit="s", gt=0
    )
    retry_cap_seconds: float = setting(20.0, "Longest wait before any retry.", unit="s", gt=0)
    commit_interval_seconds: float = setting(
        1.0, "How often the offsets of stored events are committed.", unit="s", gt=0
    )
    session_timeout_seconds: float = setting(
        30.0,
        "After this long without a heartbeat the group gives a worker's partitions to others; "
        "a worker that is killed holds them for as long.",
        unit="s",
        ge=6,
        le=60,
    )
    drain_seconds: float = setting(
        25.0,
        "How long a stop or a rebalance waits for puts in flight; what is not stored by then is read again.",
        unit="s",
        ge=0,
    )
    dead_letter_limit: int = setting(
        100,
        "A worker stops when more than this many events within the window became dead letters, and their "
        "share is exceeded as well.",
        ge=0,
    )
    dead_letter_limit_share: float = setting(
        0.1,
        "Share of the window's events, 0 to 1, that may become dead letters; 1 switches the limit off.",
        ge=0,
        le=1,
    )
    dead_letter_window_seconds: float = setting(
        600.0, "How far back dead letters are counted for the limit.", unit="s", gt=0
    )
