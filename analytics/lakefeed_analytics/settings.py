"""All settings of the analytics service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self
from uuid import uuid4

from pydantic import model_validator

from lakefeed_common.settings import KafkaSettings, LakeSettings, ServiceSettings, setting

_TOPIC = r"[A-Za-z0-9._-]{1,249}"
_HOST = r"(\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[?[0-9A-Fa-f:.]+\]?)"
_GLUE_NAME = r"^[a-z0-9_]{1,255}$"


ICEBERG_SUFFIX = "_iceberg"
_BATCHES_TABLE_PREFIX = "batches_"


def table_name(topic: str) -> str:
    """The table name that a Glue crawler derives from a topic: lower case, other characters become `_`."""
    return re.sub(r"[^a-z0-9_]", "_", topic.lower())


class AnalyticsSettings(ServiceSettings, LakeSettings):
    """Settings of `lakefeed-analytics`."""

    http_port: int = setting(
        8003, "Port of metrics, health and the API; 0 selects a free one.", ge=0, le=65535
    )
    http_allowed_hosts: str = setting(
        "localhost,127.0.0.1,[::1]",
        "Names and addresses of the API, separated by commas, compared with the `Host` of a request. "
        "`.example.com` matches all its subdomains, `*` any name. The address of the connection is always "
        "allowed; health and metrics are served under any name.",
        pattern=rf"^{_HOST}(,{_HOST})*$",
    )
    topic: str = setting("demo_testing", "Topic of the events.", pattern=f"^{_TOPIC}$")
    topics: str | None = setting(
        None,
        "Topics to catalogue, separated by commas; by default only LAKEFEED_TOPIC.",
        pattern=f"^{_TOPIC}(,{_TOPIC})*$",
    )
    create_bucket: bool = setting(False, "Create the bucket if it does not exist.")
    glue_database: str = setting("lakefeed", "Database in the Glue catalogue.", pattern=_GLUE_NAME)
    crawler: str = setting("lakefeed", "Name of the Glue crawler.", pattern=r"^[A-Za-z0-9_.-]{1,255}$")
    crawler_role: str = setting(
        "lakefeed-crawler",
        "IAM role of the crawler, by name or ARN.",
        pattern=r"^(arn:aws[a-z-]*:iam::\d{12}:role/)?[A-Za-z0-9_+=,.@/-]{1,576}$",
    )
    crawler_schedule: str = setting(
        "",
        "Schedule on which Glue starts crawls, such as `cron(15 0 * * ? *)` (UTC); empty for none.",
        pattern=r"^(cron\((\S+ ){5}\S+\))?$",
    )
    crawl_poll_seconds: float = setting(
        30.0, "How often the bucket is checked for new day folders.", unit="s", gt=0, le=3600
    )
    crawl_min_interval_seconds: float = setting(
        60.0,
        "Minimum time between two crawls for new folders; Glue bills at least ten minutes per crawl.",
        unit="s",
        ge=0,
    )
    crawl_interval_seconds: float = setting(
        0.0,
        "Time after which to crawl again even without a new folder, to find new columns of known days; "
        "0 for never.",
        unit="s",
        ge=0,
    )
    crawl_timeout_seconds: float = setting(
        3600.0,
        "How long `lakefeed-analytics crawl` waits for a crawl. A crawl that takes longer makes `serve` not "
        "ready; it is not stopped.",
        unit="s",
        gt=0,
    )
    workgroup: str = setting("lakefeed", "Athena workgroup.", pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    results_location: str | None = setting(
        None,
        "Where Athena writes results; by default `s3://BUCKET/athena-results/`.",
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([^/]+/)*$",
    )
    query_bytes_limit: int = setting(
        10_000_000_000,
        "Athena cancels a query that has scanned this much; Athena's minimum is 10 MB.",
        unit="B",
        ge=10_000_000,
    )
    query_timeout_seconds: float = setting(300.0, "A query that takes longer is cancelled.", unit="s", gt=0)
    price_per_terabyte_usd: float = setting(
        5.0, "Athena's price per scanned terabyte (10^12 B), for estimates.", unit="USD", ge=0
    )
    tables_prefix: str = setting(
        "tables",
        "Prefix of the keys of Iceberg tables, one folder each.",
        pattern=r"^[\w.!*'()-]+(/[\w.!*'()-]+)*$",
    )
    queries_folder: Path = setting(
        Path(__file__).resolve().parent.parent / "queries",
        "Folder of the named queries, one `*.sql` file each.",
    )

    @property
    def topic_names(self) -> tuple[str, ...]:
        """The topics to catalogue, without duplicates, in the given order."""
        return tuple(dict.fromkeys((self.topics or self.topic).split(",")))

    @property
    def table_prefix(self) -> str:
        """What the names of the crawler's tables begin with; the database may have tables of both layouts."""
        return _BATCHES_TABLE_PREFIX if self.layout == "batches" else ""

    def raw_table(self, topic: str) -> str:
        """The table that the crawler makes of a topic's objects."""
        return self.table_prefix + table_name(topic)

    def raw_tables(self, topic: str) -> tuple[str, str]:
        """The tables of a topic's one-event objects and of its batches."""
        return table_name(topic), _BATCHES_TABLE_PREFIX + table_name(topic)

    @property
    def default_iceberg_table(self) -> str:
        """The Iceberg table of the first topic."""
        return table_name(self.topic_names[0]) + ICEBERG_SUFFIX

    @property
    def default_table(self) -> str:
        """The table of the first topic."""
        return self.raw_table(self.topic_names[0])

    @property
    def results(self) -> str:
        """Where Athena writes results, ending in `/`."""
        return self.results_location or f"s3://{self.bucket}/athena-results/"

    @property
    def results_bucket(self) -> str:
        """The bucket of the results."""
        return self.results.removeprefix("s3://").partition("/")[0]

    def topic_prefix(self, topic: str) -> str:
        """The key prefix of a topic's objects, ending in `/`."""
        return f"{self.layout_prefix}/{topic}/"

    def topic_location(self, topic: str) -> str:
        """The folder of a topic's objects, `s3://…/`: the crawler's target and the table's location."""
        return f"s3://{self.bucket}/{self.topic_prefix(topic)}"

    def topic_locations(self, topic: str) -> tuple[str, ...]:
        """The folders of a topic's objects in either layout."""
        prefixes = (self.events_prefix, self.batches_prefix)
        return tuple(f"s3://{self.bucket}/{prefix}/{topic}/" for prefix in prefixes)

    @model_validator(mode="after")
    def _tables_differ(self) -> Self:
        tables: dict[str, str] = {}
        for topic in self.topic_names:
            other = tables.setdefault(table_name(topic), topic)
            if other != topic:
                raise ValueError(
                    f"LAKEFEED_TOPICS: {other} and {topic} would both be the table {table_name(topic)}"
                )
        for table, topic in tables.items():
            if (raw := tables.get(table.removesuffix(ICEBERG_SUFFIX))) not in (None, topic):
                raise ValueError(f"LAKEFEED_TOPICS: {table} is the name of {raw}'s Iceberg table")
        return self

    @model_validator(mode="after")
    def _results_are_apart_from_events(self) -> Self:
        for prefix in (self.events_prefix, self.batches_prefix, self.dead_letter_prefix, self.tables_prefix):
            place = f"s3://{self.bucket}/{prefix}/"
            if self.results.startswith(place) or place.startswith(self.results):
                raise ValueError(
                    f"LAKEFEED_RESULTS_LOCATION={self.results} and {place} must not contain one another: "
                    "results would be read as events"
                )
        return self

    @model_validator(mode="after")
    def _tables_have_their_own_prefix(self) -> Self:
        own = f"{self.tables_prefix}/"
        for name in ("events_prefix", "batches_prefix", "dead_letter_prefix"):
            other = f"{getattr(self, name)}/"
            if own.startswith(other) or other.startswith(own):
                raise ValueError(
                    f"LAKEFEED_TABLES_PREFIX={self.tables_prefix} and LAKEFEED_{name.upper()}="
                    f"{getattr(self, name)} must not contain one another: files of tables are not events"
                )
        return self


class CompactSettings(AnalyticsSettings, KafkaSettings):
    """Settings of `lakefeed-analytics compact`, `rebuild` and `maintain`."""

    consumer_group: str = setting(
        "lakefeed-consumer",
        "Consumer group whose committed offsets say what is complete in the bucket.",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
    )
    compact_file_bytes: int = setting(
        256_000_000, "Size at which a data file of an Iceberg table is finished.", unit="B", ge=1_000_000
    )
    compact_commit_bytes: int = setting(
        1_000_000_000,
        "Compressed input after which a compaction commits and continues: what a kill costs at most.",
        unit="B",
        ge=1_000_000,
    )
    orphan_days: float = setting(
        7.0,
        "Age from which on `maintain` removes files that an Iceberg table does not refer to; more than the "
        "longest compaction takes.",
        unit="d",
        ge=1,
    )

    def iceberg_table(self, topic: str) -> str:
        """The name of a topic's Iceberg table."""
        return table_name(topic) + ICEBERG_SUFFIX

    def new_table_location(self, topic: str) -> str:
        """A folder for a new Iceberg table that no other one has, without a slash at its end.

        A table that exists says itself where it is.
        """
        name = f"{self.glue_database}.{self.iceberg_table(topic)}-{uuid4()}"
        return f"s3://{self.bucket}/{self.tables_prefix}/{name}"
