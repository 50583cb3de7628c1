"""Every setting of the consumer."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import ModelWrapValidatorHandler, PrivateAttr, model_validator

from lakefeed_common.settings import KafkaSettings, LakeSettings, ServiceSettings, setting

S3Client = Literal["fast", "obstore"]
S3_CLIENTS: tuple[S3Client, ...] = get_args(S3Client)


class ConsumerSettings(ServiceSettings, KafkaSettings, LakeSettings):
    """The consumer: which group reads the topic, and how its events are put into the bucket."""

    http_port: int = setting(
        8002, "Port on which metrics and health are served; 0 takes a free one.", ge=0, le=65535
    )
    consumer_group: str = setting(
        "lakefeed-consumer",
        "Consumer group; the workers of a group share the topic's partitions.",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
    )
    s3_client: S3Client = setting(
        "fast",
        "Client that puts the objects: `fast`, which only does conditional puts and passes each one that is "
        "not confirmed on to obstore, or `obstore` alone.",
    )
    puts_in_flight: int = setting(
        256,
        "How many objects one worker puts at the same time, at most: with puts of 20 ms, 256 are 12,800 "
        "objects/s.",
        ge=1,
        le=10_000,
    )
    put_timeout_seconds: float = setting(
        30.0, "After this long without a response a put is retried.", unit="s", gt=0
    )
    retry_base_seconds: float = setting(
        0.1, "Longest wait before the first retry of a put; it doubles with each retry.", unit="s", gt=0
    )
    retry_cap_seconds: float = setting(20.0, "Longest wait before any retry.", unit="s", gt=0)
    commit_interval_seconds: float = setting(
        1.0, "How often the offsets of stored events are committed.", unit="s", gt=0
    )
    session_timeout_seconds: float = setting(
        30.0,
        "After this long without a heartbeat the group assigns a worker's partitions to others; a killed "
        "worker keeps them for as long.",
        unit="s",
        ge=6,
        le=60,
    )
    drain_seconds: float = setting(
        25.0,
        "How long a stop or a rebalance waits for puts in flight; events not stored by then are read again.",
        unit="s",
        ge=0,
    )
    dead_letter_limit: int = setting(
        100,
        "A worker stops when more than this many events within the window became dead letters, and the "
        "share is exceeded as well.",
        ge=0,
    )
    dead_letter_limit_share: float = setting(
        0.1,
        "Share of the window's events, 0 to 1, that may become dead letters; 1 disables the limit.",
        ge=0,
        le=1,
    )
    dead_letter_window_seconds: float = setting(
        600.0, "Length of the window in which dead letters are counted for the limit.", unit="s", gt=0
    )

    _deprecations: tuple[str, ...] = PrivateAttr(default=())

    @property
    def deprecations(self) -> tuple[str, ...]:
        """What to tell the user about values that are still accepted under an old name."""
        return self._deprecations

    def note_deprecation(self, text: str) -> None:
        """Add to `deprecations`."""
        self._deprecations = (*self._deprecations, text)

    @model_validator(mode="wrap")
    @classmethod
    def _accept_old_client_name(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, dict) or values.get("s3_client") != "lean":
            return handler(values)
        settings = handler(values | {"s3_client": "fast"})
        settings.note_deprecation("LAKEFEED_S3_CLIENT=lean is deprecated; set LAKEFEED_S3_CLIENT=fast")
        return settings
