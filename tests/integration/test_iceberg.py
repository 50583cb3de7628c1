"""Compaction on a real Glue and S3: each row once, whatever is killed, lost or late."""

from __future__ import annotations

import gzip
import pickle
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import ClientError
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from pyiceberg.exceptions import CommitFailedException

from lakefeed_analytics import cli
from lakefeed_analytics.iceberg import maintain, rebuild
from lakefeed_analytics.iceberg import table as iceberg_table
from lakefeed_analytics.iceberg.accept import Accept
from lakefeed_analytics.iceberg.chain import Watermark
from lakefeed_analytics.iceberg.compact import Done, HoleError
from lakefeed_analytics.iceberg.files import S3Files, place_of
from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.iceberg.service import running
from lakefeed_analytics.iceberg.work import Task
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common import aws as aws_clients
from lakefeed_common.errors import InputError, MissingError, RefusedError, UnavailableError
from lakefeed_common.lake.keys import batch_key
from lakefeed_common.lake.metadata import BatchMetadata
from lakefeed_common.settings import load
from tests.helpers.analytics.batches import prices, put_batch, put_events, record
from tests.helpers.analytics.iceberg import compact, expected, offsets, read_table, started
from tests.helpers.analytics.lake import NO_TLS
from tests.helpers.commands import signals_and_logging_as_before
from tests.helpers.faulty_aws import Answer, Call, FaultyAws, Forward, Gate, error, lost, reset
from tests.helpers.lake_objects import batch
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client

SECONDS = 60


@pytest.fixture
def variables(bucket: str, topic: str, glue: GlueClient) -> dict[str, str]:
    glue.create_database(DatabaseInput={"Name": "lakefeed"})
    return {"LAKEFEED_BUCKET": bucket, "LAKEFEED_TOPIC": topic}


@pytest.fixture
def settings(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> CompactSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("lakefeed_analytics.iceberg.compact._FIRST_PAUSE", 0.01)
    return load(CompactSettings)


@pytest.fixture
def faulty(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyAws]:
    """The test's AWS behind a proxy, where `AWS_ENDPOINT_URL` leads."""
    with FaultyAws(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def test_batches_and_one_event_objects_become_rows(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_events(s3, bucket, prices(topic, 0, range(10)))
    put_batch(s3, bucket, prices(topic, 0, [*range(10, 40), *range(41, 50)]), 10, 50)
    put_batch(s3, bucket, prices(topic, 1, range(5), timestamp_ms=0), 0, 5)
    put_batch(s3, bucket, prices(topic, 1, range(5, 9)), 5, 9)

    done = compact(settings, topic, {0: 50, 1: 7})

    rows = read_table(s3, settings, topic)
    assert offsets(rows) == expected((0, 0, 40), (0, 41, 50), (1, 0, 5))
    assert (done.rows, done.commits, done.watermarks) == (54, 1, {0: 50, 1: 5})
    one = next(row for row in rows.to_pylist() if row["kafka_offset"] == 12)
    assert (one["ticker"], one["close"], one["volume"], one["up"]) == ("T5", 12.5, 12, True)
    assert (one["dt"], one["kafka_timestamp"].isoformat()) == ("2026-09-21", "2026-09-21T14:13:20+00:00")
    assert {row["dt"] for row in rows.to_pylist() if row["kafka_partition"]} == {"1970-01-01"}

    assert compact(settings, topic, {0: 50, 1: 7}).commits == 0
    assert compact(settings, topic, {0: 50, 1: 9}).rows == 4
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 40), (0, 41, 50), (1, 0, 9))


class Elsewhere:
    """Other processes that lose results: each task is done twice, and in a first attempt none comes back."""

    def __init__(self) -> None:
        self.tasks: list[int] = []

    def __call__(self, function: Callable[[Task], Any], tasks: Sequence[Task]) -> list[Any]:
        sent = [pickle.dumps((function, task)) for task in tasks]
        results: dict[int, bytes] = {}
        for number in [*reversed(range(len(sent))), *range(len(sent))]:
            called, task = pickle.loads(sent[number])  # noqa: S301 - our own
            results[number] = pickle.dumps(called(task))
        self.tasks.append(len(tasks))
        if len(self.tasks) == 1:
            raise UnavailableError("the results of the first attempt are lost")
        return [pickle.loads(results[number]) for number in range(len(sent))]  # noqa: S301


def test_work_that_is_spread_over_processes_adds_each_row_once(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    small = settings.model_copy(update={"compact_file_bytes": 300})
    put_events(s3, bucket, prices(topic, 0, range(3)))
    for start in (3, 10, 20):
        put_batch(
            s3, bucket, prices(topic, 0, range(start, start + 5)), start, {3: 10}.get(start, start + 10)
        )
    put_batch(s3, bucket, prices(topic, 1, range(9)), 0, 9)

    elsewhere = Elsewhere()
    done = compact(small, topic, {0: 30, 1: 9}, elsewhere)
    assert (done.rows, done.commits, done.refused) == (27, 1, 1)
    assert min(elsewhere.tasks) > 1, "they share the work"

    # One task finds a column, and another one a wider type for it.
    put_batch(s3, bucket, [record(topic, 0, 30, b'{"close":"n/a","size":1}')], 30, 31)
    put_batch(s3, bucket, [record(topic, 0, 31, b'{"close":7,"size":1.5}')], 31, 32)
    tiny = settings.model_copy(update={"compact_file_bytes": 1})
    assert compact(tiny, topic, {0: 32}, elsewhere).unfit == 1
    with connect(settings, topic) as parts:
        state = parts.table.load()
        assert state is not None
        assert state.columns["size"] == "double"

    everything = expected((0, 0, 8), (0, 10, 15), (0, 20, 25), (0, 30, 32), (1, 0, 9))
    assert offsets(read_table(s3, settings, topic)) == everything
    with connect(tiny, topic, run=elsewhere) as parts:
        assert rebuild.rebuild(parts.compactor, lambda _: None).rows == everything.total()
    assert offsets(read_table(s3, settings, topic)) == everything

    key = put_batch(s3, bucket, prices(topic, 0, range(32, 40)), 32, 40)
    metadata = s3.head_object(Bucket=bucket, Key=key)["Metadata"]
    s3.put_object(Bucket=bucket, Key=key, Body=b"x", Metadata=metadata)
    with pytest.raises(InputError, match=key):
        compact(tiny, topic, {0: 40}, elsewhere)


def test_new_columns_are_added_and_what_does_not_fit_is_kept(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    compact(settings, topic, {0: 3})
    put_batch(s3, bucket, [record(topic, 0, 3, b'{"close":"n/a","a.b":1,"Currency":"EUR"}')], 3, 4)
    put_batch(s3, bucket, [record(topic, 0, 4, b'{"close":7,"a.b":1.5}')], 4, 5)

    assert compact(settings, topic, {0: 5}).unfit == 1

    with connect(settings, topic) as parts:
        state = parts.table.load()
        assert state is not None
        # Read by the ids of columns, as Athena does.
        rows = state.table.scan().to_arrow().sort_by("kafka_offset").to_pylist()
    assert [row["close"] for row in rows] == [0.5, 1.5, 2.5, None, 7.0]
    assert [row["a.b"] for row in rows] == [None, None, None, 1.0, 1.5]
    assert [row["currency"] for row in rows] == [None, None, None, "EUR", None]
    assert [dict(row["unfit"] or []) for row in rows] == [{}, {}, {}, {"close": "n/a"}, {}]


def test_numbers_and_timestamps_at_the_edges_of_their_types_are_kept(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    last = 253_402_300_799_999
    values = [b'{"id":9007199254740993}', b'{"id":1}', b'{"id":1.5}']
    records = [record(topic, 0, at, value, last + (at == 1)) for at, value in enumerate(values)]
    put_batch(s3, bucket, records, 0, 3)
    assert compact(settings, topic, {0: 3}).unfit == 1
    put_batch(s3, bucket, [record(topic, 0, 3, b'{"id":12345678901234567891}', last)], 3, 4)
    assert compact(settings, topic, {0: 4}).unfit == 1
    with connect(settings, topic) as parts:
        assert [str(each) for each in rebuild.rebuild(parts.compactor, lambda _: None).changes] == [
            "id: double → string"
        ]
    rows = sorted(read_table(s3, settings, topic).to_pylist(), key=lambda row: row["kafka_offset"])
    assert [row["id"] for row in rows] == ["9007199254740993", "1", "1.5", "12345678901234567891"]
    shown = "9999-12-31T23:59:59.999000+00:00"
    stamps = [row["kafka_timestamp"] for row in rows]
    assert [each and each.isoformat() for each in stamps] == [shown, None, shown, shown]


def test_many_commits_are_merged_into_few_manifests(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(iceberg_table._PROPERTIES, "commit.manifest.min-count-to-merge", "2")
    for end in range(3, 13, 3):
        put_batch(s3, bucket, prices(topic, 0, range(end - 3, end)), end - 3, end)
        compact(settings, topic, {0: end})
    with connect(settings, topic) as parts:
        state = parts.table.load()
        assert state is not None
        snapshot = state.table.current_snapshot()
        assert snapshot is not None
        assert len(snapshot.manifests(state.table.io)) < 3
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 12))


def test_types_that_a_crawler_has_found_count(
    s3: S3Client, glue: GlueClient, settings: CompactSettings, topic: str, bucket: str
) -> None:
    glue.create_table(
        DatabaseName="lakefeed",
        TableInput={
            "Name": topic.replace("-", "_"),
            "StorageDescriptor": {"Columns": [{"Name": "volume", "Type": "double"}]},
            "PartitionKeys": [{"Name": "dt", "Type": "string"}],
        },
    )
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    compact(settings, topic, {0: 3})
    assert read_table(s3, settings, topic).column("volume").to_pylist() == [0.0, 1.0, 2.0]


def test_a_hole_is_named_and_nothing_behind_it_is_added(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    put_batch(s3, bucket, prices(topic, 0, range(5, 9)), 5, 9)
    put_batch(s3, bucket, prices(topic, 1, range(4)), 0, 4)
    with pytest.raises(HoleError, match="partition 0 holds the offsets from 3 up to 4"):
        compact(settings, topic, {0: 9, 1: 4})
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 3), (1, 0, 4))


def test_a_group_that_was_reset_forward_is_followed_once_its_hole_is_accepted(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    compact(settings, topic, {0: 3})
    put_batch(s3, bucket, prices(topic, 0, range(7, 9)), 7, 9)
    with pytest.raises(HoleError, match=r"from 3 up to 6.*--accept holes"):
        compact(settings, topic, {0: 9})
    assert compact(settings, topic, {0: 9}, accept={Accept.HOLES}).rows == 2
    put_batch(s3, bucket, prices(topic, 0, range(9, 12)), 9, 12)
    assert compact(settings, topic, {0: 12}).rows == 3
    whole = expected((0, 0, 3), (0, 7, 12))
    assert offsets(read_table(s3, settings, topic)) == whole
    with connect(settings, topic) as parts, pytest.raises(HoleError, match="--accept holes"):
        rebuild.rebuild(parts.compactor, lambda _: None)
    with connect(settings, topic, accept=frozenset({Accept.HOLES})) as parts:
        assert rebuild.rebuild(parts.compactor, lambda _: None).rows == whole.total()
    assert offsets(read_table(s3, settings, topic)) == whole


def test_a_group_that_is_behind_the_table_is_reported_and_other_partitions_are_added(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    """The topic was recreated: its new events are below the watermark. Elsewhere, they get a table."""
    for start in (0, 5):
        put_batch(s3, bucket, prices(topic, 0, range(start, start + 5)), start, start + 5)
    compact(settings, topic, {0: 10})
    put_batch(s3, bucket, prices(topic, 1, range(2)), 0, 2)
    committed = {0: 4, 1: 2}
    with connect(settings, topic) as parts:
        before = parts.compactor.watermarks()
        with pytest.raises(HoleError, match=r"partition 0 up to 10, .* committed 4.*recreated"):
            parts.compactor.run(committed, lambda _: None, Done(), before)
        with pytest.raises(HoleError):
            parts.compactor.check(parts.compactor.planned(committed), committed, before)
        # Another compaction was faster than this one, which has read the offsets before.
        parts.compactor.run(committed, lambda _: None, Done(), {0: Watermark(4)})
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 10), (1, 0, 2))

    new = settings.model_copy(update={"batches_prefix": "batches2", "events_prefix": "events2"})
    stored = batch(prices(topic, 0, range(4)), prefix="batches2")
    s3.put_object(Bucket=bucket, Key=stored.key, Body=stored.body, Metadata=stored.metadata)
    with pytest.raises(InputError, match="was made of the objects in"):
        compact(new, topic, {0: 4})
    with connect(settings, topic) as parts:
        parts.table._catalog.drop_table(parts.table._name)
    assert compact(new, topic, {0: 4}).rows == 4


@pytest.mark.parametrize("wrong", [{"events_prefix": "evnts"}, {"bucket": "elsewhere"}])
def test_objects_in_another_place_than_before_are_refused(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str, wrong: dict[str, str]
) -> None:
    """Even one that has objects of the topic: of another system, or of another stage."""
    if "bucket" in wrong:
        wrong = {"bucket": f"{bucket}-2"}
        s3.create_bucket(Bucket=wrong["bucket"])
        put_events(s3, wrong["bucket"], prices(topic, 0, range(8, 9)))
    put_events(s3, bucket, prices(topic, 0, range(3)))
    compact(settings, topic, {0: 3})
    elsewhere = settings.model_copy(update=wrong)
    for use in (
        lambda: compact(elsewhere, topic, {0: 9}),
        lambda: planned(elsewhere, topic, {0: 9}),
    ):
        with pytest.raises(InputError, match="LAKEFEED_EVENTS_PREFIX"):
            use()
    assert compact(settings, topic, {0: 3}).watermarks == {}
    if "bucket" in wrong:
        assert compact(elsewhere, topic, {0: 3}, accept={Accept.SOURCE}).rows == 0
        assert compact(elsewhere, topic, {0: 9}).rows == 1


def planned(settings: CompactSettings, topic: str, committed: dict[int, int]) -> None:
    with connect(settings, topic) as parts:
        parts.compactor.planned(committed)


@pytest.mark.parametrize("has_table", [False, True])
@pytest.mark.parametrize("layout", ["objects", "batches"])
def test_committed_offsets_without_any_object_of_the_topic_are_not_dead_letters(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str, has_table: bool, layout: str
) -> None:
    settings = settings.model_copy(update={"layout": layout})
    if has_table:
        put_events(s3, bucket, prices(topic, 0, range(3)))
        compact(settings, topic, {0: 3})
        for each in s3.list_objects_v2(Bucket=bucket, Prefix="events/")["Contents"]:
            s3.delete_object(Bucket=bucket, Key=each["Key"])
    for use in (compact, planned):
        with pytest.raises(MissingError, match="LAKEFEED_BUCKET"):
            use(settings, topic, {0: 9})
    assert compact(settings, topic, {0: 0}).commits == 0
    # Nor are they if there are dead letters, once the table has had events.
    s3.put_object(Bucket=bucket, Key=f"dead-letters/{topic}/dt=2026-01-01/x", Body=b"x")
    if has_table:
        with pytest.raises(MissingError):
            compact(settings, topic, {0: 9})
        assert compact(settings, topic, {0: 9}, accept={Accept.HOLES}).watermarks == {0: 9}
    else:
        assert compact(settings, topic, {0: 9}).commits == 0


def test_a_dead_letter_behind_the_last_batch_of_a_changed_layout_is_no_hole(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    assert compact(settings, topic, {0: 4}).watermarks == {0: 3}
    assert compact(settings, topic, {0: 5}).commits == 0
    put_events(s3, bucket, prices(topic, 0, [5]))
    assert compact(settings, topic, {0: 7}).watermarks == {0: 7}
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 3), (0, 5, 6))


def test_a_batch_in_an_earlier_day_is_found_before_the_end_counts_as_open(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    for day in range(5):
        put_batch(s3, bucket, prices(topic, 0, [day], timestamp_ms=day * 86_400_000), day, day + 1)
    compact(settings, topic, {0: 5})
    put_batch(s3, bucket, prices(topic, 0, range(5, 8), timestamp_ms=0), 5, 8)
    assert compact(settings, topic, {0: 8}).watermarks == {0: 8}


def test_a_batch_of_dead_letters_alone_moves_the_watermark(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    about = BatchMetadata(7, 0, 0, "", sha256(b"").hexdigest())
    key = batch_key("batches", prices(topic, 0, [3])[0], 3)
    s3.put_object(Bucket=bucket, Key=key, Body=b"", Metadata=about.to_dict())
    assert compact(settings, topic, {0: 3}).rows == 3
    done = compact(settings, topic, {0: 7})
    assert (done.rows, done.watermarks) == (0, {0: 7})


def test_a_damaged_batch_is_named_and_nothing_of_it_is_added(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    key = put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    metadata = s3.head_object(Bucket=bucket, Key=key)["Metadata"]
    s3.put_object(Bucket=bucket, Key=key, Body=b"x", Metadata=metadata)
    with pytest.raises(InputError, match=key):
        compact(settings, topic, {0: 3})


@pytest.mark.parametrize("name", ["lakefeed-end", "lakefeed-records", "lakefeed-sha256"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_response_that_is_cut_within_its_head_moves_no_watermark_to_a_wrong_place(
    s3: S3Client,
    faulty: FaultyAws,
    settings: CompactSettings,
    topic: str,
    bucket: str,
    name: str,
    whole: bool,
) -> None:
    """boto3 takes what has arrived for all: a header is missing, or has a shorter value."""
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    body = gzip.compress(b"")
    about = BatchMetadata(1234, 0, 0, "", sha256(body).hexdigest())
    key = batch_key("batches", prices(topic, 0, [3])[0], 3)
    s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=about.to_dict())
    cuts: list[str] = []

    def cut(call: Call, forward: Forward) -> Answer:
        answer = forward()
        headers = {each.lower(): value for each, value in answer.headers.items()}
        value = headers.get(f"x-amz-meta-{name}")
        # Only the first questions about the two batches: what is read because of them arrives in full.
        if call.method != "HEAD" or value is None or len(cuts) == 2:
            return answer
        cuts.append(value)
        headers[f"x-amz-meta-{name}"] = value[:-1] if not whole else ""
        if not headers[f"x-amz-meta-{name}"]:
            del headers[f"x-amz-meta-{name}"]
        return Answer(answer.status, headers, answer.body)

    faulty.always("S3", cut)
    assert compact(settings, topic, {0: 1234}).watermarks == {0: 1234}
    assert len(cuts) == 2
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 3))


def test_another_topics_table_is_left_alone(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    compact(settings, topic, {0: 3})
    other = topic.replace("-", "_")
    with pytest.raises(InputError, match=topic):
        compact(settings, other, {0: 3})


def test_a_missing_database_is_named(s3: S3Client, topic: str, bucket: str) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    with pytest.raises(MissingError, match="lakefeed-analytics ensure"):
        compact(CompactSettings(bucket=bucket, topic=topic, glue_database="no_such"), topic, {0: 3})
    with pytest.raises(MissingError, match="lakefeed-analytics ensure"):
        planned(CompactSettings(bucket=bucket, topic=topic, glue_database="no_such"), topic, {0: 3})


def test_a_rebuild_widens_columns_and_keeps_each_row_once(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_batch(s3, bucket, [record(topic, 0, 0, b'{"a":1,"b":true}')], 0, 1)
    compact(settings, topic, {0: 1})
    put_batch(s3, bucket, [record(topic, 0, 1, b'{"a":1.50,"b":"x"}')], 1, 2)
    compact(settings, topic, {0: 2})
    put_batch(s3, bucket, [record(topic, 0, 2, b'{"a":2,"b":[1.50]}')], 2, 3)

    with connect(settings, topic) as parts:
        would = rebuild.planned(parts.compactor)
        assert [str(each) for each in would.changes] == ["a: long → double", "b: boolean → string"]
        assert parts.table.load().columns == {"a": "long", "b": "boolean"}  # type: ignore[union-attr]

        # A compaction that commits while the rebuild writes.
        news = iter(["types", "writing"])

        def say(text: str) -> None:
            if text.startswith(next(news, "never")):
                return
            if text.startswith("writing"):
                compact(settings, topic, {0: 3})

        done = rebuild.rebuild(parts.compactor, say)
        assert (done.rows, len(done.changes)) == (3, 2)
        state = parts.table.load()
        assert state is not None
        rows = state.table.scan().to_arrow().sort_by("kafka_offset").to_pylist()
    assert [(row["a"], row["b"], row["unfit"]) for row in rows] == [
        (1.0, "true", None),
        (1.5, "x", None),
        (2.0, "[1.50]", None),
    ]
    put_batch(s3, bucket, [record(topic, 0, 3, b'{"a":3}')], 3, 4)
    compact(settings, topic, {0: 4})
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 4))


def test_a_rebuild_without_all_objects_leaves_the_table_as_it_is(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    key = put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    put_batch(s3, bucket, prices(topic, 0, range(3, 5)), 3, 5)
    compact(settings, topic, {0: 5})
    s3.delete_object(Bucket=bucket, Key=key)
    with connect(settings, topic) as parts, pytest.raises(InputError, match="has 5 rows"):
        rebuild.rebuild(parts.compactor, lambda _: None)
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 5))


def test_maintenance_removes_what_the_table_does_not_refer_to(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    for end in (3, 6):
        put_batch(s3, bucket, prices(topic, 0, range(end - 3, end)), end - 3, end)
        compact(settings, topic, {0: end})
    later = datetime.now(UTC) + timedelta(days=8)
    with connect(settings, topic) as parts:
        _, orphan = place_of(f"{parts.table.existing().location}/data/dt=2026-09-21/orphan.parquet")
        s3.put_object(Bucket=bucket, Key=orphan, Body=b"x")
        assert maintain.orphans(parts.s3, settings, parts.table).files == [], "younger than the limit"
        found = maintain.orphans(parts.s3, settings, parts.table, later)
        assert [each.key for each in found.files] == [orphan]
        maintain.remove(parts.s3, settings, found)
        assert maintain.orphans(parts.s3, settings, parts.table, later).files == []
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 6))


def in_database(settings: CompactSettings, glue: GlueClient, name: str) -> CompactSettings:
    glue.create_database(DatabaseInput={"Name": name})
    return settings.model_copy(update={"glue_database": name})


def test_tables_of_two_databases_or_topics_share_no_folder(
    s3: S3Client, glue: GlueClient, settings: CompactSettings, topic: str, bucket: str
) -> None:
    # The names of their tables are equal.
    other = topic.replace("-", "_")
    for each in (topic, other):
        put_batch(s3, bucket, prices(each, 0, range(3)), 0, 3)
        put_batch(s3, bucket, prices(each, 1, range(3)), 0, 3)
    tables = [
        (settings, topic),
        (in_database(settings, glue, "staging"), topic),
        (in_database(settings, glue, "others"), other),
    ]
    for where, name in tables:
        compact(where, name, {0: 3})
    later = datetime.now(UTC) + timedelta(days=8)
    for where, name in tables:
        with connect(where, name) as parts:
            assert maintain.orphans(parts.s3, where, parts.table, later).files == []
        # A table stays where it is, whatever the settings say.
        compact(where.model_copy(update={"tables_prefix": "elsewhere"}), name, {1: 3})
        assert offsets(read_table(s3, where, name)) == expected((0, 0, 3), (1, 0, 3))
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix="elsewhere/")


def test_nothing_is_removed_from_a_folder_that_another_table_uses(
    s3: S3Client,
    glue: GlueClient,
    settings: CompactSettings,
    topic: str,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As tables of earlier versions did: their folder had the name of the topic alone."""
    shared = f"s3://{bucket}/tables/{topic}"
    monkeypatch.setattr(CompactSettings, "new_table_location", lambda *_: shared)
    staging = in_database(settings, glue, "staging")
    later = datetime.now(UTC) + timedelta(days=8)
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    compact(settings, topic, {0: 3})
    with connect(staging, topic) as parts:
        # A table without rows, such as one whose first compaction was killed, is kept as well.
        parts.table.create({})
    with connect(settings, topic) as parts:
        assert maintain.orphans(parts.s3, settings, parts.table, later).files == []
    compact(staging, topic, {0: 3})
    for each in (settings, staging):
        with connect(each, topic) as parts, pytest.raises(RefusedError, match="another Iceberg table"):
            maintain.orphans(parts.s3, each, parts.table, later)
        assert offsets(read_table(s3, each, topic)) == expected((0, 0, 3))


def test_the_service_compacts_and_reports(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    settings = settings.model_copy(update={"http_port": 0})
    committed = {0: 3}
    with running(settings, 0.2, threading.Event(), lambda *_: dict(committed)) as port:

        def get(path: str) -> httpx.Response:
            return httpx.get(f"http://127.0.0.1:{port}/{path}", verify=NO_TLS, timeout=SECONDS)

        def has(line: str) -> bool:
            return line in get("metrics").text

        labels = f'{{partition="0",topic="{topic}"}}'
        wait_for(lambda: has(f"lakefeed_analytics_compact_watermark{labels} 3.0"), timeout=SECONDS)
        assert get("readyz").status_code == 200
        assert has(f'lakefeed_analytics_compact_rows_total{{topic="{topic}"}} 3.0')
        # The chain breaks: the lag is visible, and the reason.
        put_batch(s3, bucket, prices(topic, 0, range(5, 9)), 5, 9)
        committed[0] = 9
        wait_for(lambda: has(f"lakefeed_analytics_compact_lag_events{labels} 6.0"), timeout=SECONDS)
        wait_for(lambda: get("readyz").status_code == 503, timeout=SECONDS)
        assert "from 3 up to 4" in get("readyz").json()["reasons"]["tables"]
        put_batch(s3, bucket, prices(topic, 0, range(3, 5)), 3, 5)
        wait_for(lambda: get("readyz").status_code == 200, timeout=SECONDS)
        assert has(f"lakefeed_analytics_compact_lag_events{labels} 0.0")
        assert get("healthz").status_code == 200
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 9))


def test_a_round_that_fails_is_repeated_before_its_interval_has_passed(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    settings = settings.model_copy(update={"http_port": 0})
    failures = iter([UnavailableError("Kafka restarts")])

    def committed(*_: object) -> dict[int, int]:
        for failure in failures:
            raise failure
        return {0: 3}

    with running(settings, 3600, threading.Event(), committed) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        added = f'lakefeed_analytics_compact_rows_total{{topic="{topic}"}} 3.0'
        wait_for(lambda: added in httpx.get(url, verify=NO_TLS, timeout=SECONDS).text, timeout=SECONDS)


def test_the_service_is_ready_while_its_first_compaction_lasts(
    s3: S3Client, faulty: FaultyAws, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(3)), 0, 3)
    settings = settings.model_copy(update={"http_port": 0})
    first = Gate(SECONDS)
    faulty.once("CreateTable", first)
    try:
        with running(settings, 0.2, threading.Event(), lambda *_: {0: 3}) as port:

            def get(path: str) -> httpx.Response:
                return httpx.get(f"http://127.0.0.1:{port}/{path}", verify=NO_TLS, timeout=SECONDS)

            first.wait()
            assert get("readyz").status_code == 200
            first.release()
            added = f'lakefeed_analytics_compact_rows_total{{topic="{topic}"}} 3.0'
            wait_for(lambda: added in get("metrics").text, timeout=SECONDS)
    finally:
        first.release()


@pytest.mark.smoke
def test_the_commands_compact_up_to_the_committed_offsets(
    s3: S3Client,
    kafka: str,
    settings: CompactSettings,
    topic: str,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LAKEFEED_KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("LAKEFEED_CONSUMER_GROUP", f"group-{topic}")
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(SECONDS)
    monkeypatch.setattr("sys.argv", ["lakefeed-analytics", "compact"])
    with signals_and_logging_as_before():
        assert cli.main() == 1
    assert "LAKEFEED_CONSUMER_GROUP" in capsys.readouterr().err
    place = [TopicPartition(topic, 0, 5)]
    group = ConsumerGroupTopicPartitions(f"group-{topic}", place)
    admin.alter_consumer_group_offsets([group])[f"group-{topic}"].result(SECONDS)
    put_batch(s3, bucket, prices(topic, 0, range(5)), 0, 5)
    put_batch(s3, bucket, prices(topic, 0, range(5, 9)), 5, 9)

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["lakefeed-analytics", *arguments])
        with signals_and_logging_as_before():
            assert cli.main() == code
        said = capsys.readouterr()
        return said.err if code else said.out

    for arguments in (["maintain"], ["maintain", "--dry-run"], ["rebuild"], ["rebuild", "--dry-run"]):
        assert "there is no table" in run(*arguments, code=1)

    assert "offsets 0 to 4, 1 objects" in run("compact", "--dry-run")
    assert "5 rows in 1 files" in run("compact")
    assert "nothing to add" in run("compact", "--dry-run")
    assert "0 rows" in run("compact", "--accept", "holes", "--accept", "source")
    assert "0 columns change" in run("rebuild", "--dry-run")
    assert 'would run VACUUM "' in run("maintain", "--dry-run")
    group = ConsumerGroupTopicPartitions(f"group-{topic}", [TopicPartition(topic, 0, 4)])
    admin.alter_consumer_group_offsets([group])[f"group-{topic}"].result(SECONDS)
    for arguments in (["compact", "--dry-run"], ["compact"]):
        assert "the group has committed 4" in run(*arguments, code=1)
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 5))


def test_a_compaction_that_is_killed_at_any_request_leaves_each_row_once(
    s3: S3Client, settings: CompactSettings, variables: dict[str, str], topic: str, bucket: str
) -> None:
    """Killed after each request, which is before the next one, on a new table and then on one that exists."""
    end = killed_at = kills = 0
    stored: Counter[tuple[int, int]] = Counter()
    for _ in range(2):
        killed_at = 0
        while True:
            if stored == expected((0, 0, end)):
                put_batch(s3, bucket, prices(topic, 0, range(end, end + 3)), end, end + 3)
                end += 3
            killed_at += 2
            process = started(variables, topic, {0: end}, killed_at)
            process.join(SECONDS)
            stored = offsets(read_table(s3, settings, topic))
            assert stored in (expected((0, 0, end - 3)), expected((0, 0, end)))
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            kills += 1
    assert kills > 12, "each compaction has some requests"
    assert stored == expected((0, 0, end))


def test_two_compactions_at_once_add_each_row_once(
    s3: S3Client, settings: CompactSettings, variables: dict[str, str], topic: str, bucket: str
) -> None:
    end = 0
    for _ in range(3):
        put_batch(s3, bucket, prices(topic, 0, range(end, end + 50)), end, end + 50)
        end += 50
        processes = [started(variables, topic, {0: end}) for _ in range(2)]
        for process in processes:
            process.join(SECONDS)
            assert process.exitcode == 0
        assert offsets(read_table(s3, settings, topic)) == expected((0, 0, end))


def test_a_compaction_calls_no_more_than_its_documented_permissions_allow(
    s3: S3Client, faulty: FaultyAws, settings: CompactSettings, topic: str, bucket: str
) -> None:
    for end in (3, 6):
        put_batch(s3, bucket, prices(topic, 0, range(end - 3, end)), end - 3, end)
        faulty.calls.clear()
        compact(settings, topic, {0: end})
        called = {call.action for call in faulty.calls} - {"S3"}
        assert called == {"GetDatabase", "GetTable", "UpdateTable", *(["CreateTable"] if end == 3 else [])}


@pytest.mark.parametrize("fault", [lost, reset, error("InternalServiceException", status=500)])
def test_a_commit_whose_answer_is_lost_or_that_never_arrives_adds_each_row_once(
    s3: S3Client, faulty: FaultyAws, settings: CompactSettings, topic: str, bucket: str, fault: Any
) -> None:
    put_batch(s3, bucket, prices(topic, 0, range(10)), 0, 10)
    compact(settings, topic, {0: 10})
    put_batch(s3, bucket, prices(topic, 0, range(10, 20)), 10, 20)
    faulty.once("UpdateTable", fault)
    done = compact(settings, topic, {0: 20})
    assert done.refused == 1
    assert done.watermarks == {0: 20} or done.commits == 0
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 20))


def test_a_fault_at_any_request_adds_each_row_once(
    s3: S3Client, faulty: FaultyAws, settings: CompactSettings, topic: str, bucket: str
) -> None:
    """The n-th request's answer is lost: of Glue, and of S3 more often than the client repeats it."""
    end, position = 0, 0
    while True:
        put_batch(s3, bucket, prices(topic, 0, range(end, end + 3)), end, end + 3)
        end += 3
        losing = _Losing(faulty, position)
        faulty.always("*", losing)
        compact(settings, topic, {0: end})
        faulty.heal()
        assert offsets(read_table(s3, settings, topic)) == expected((0, 0, end)), position
        if not losing.failed:
            break
        position += _WINDOW


# More than the attempts that a call to S3 gets.
_WINDOW = 5


class _Losing:
    """Loses the answers of the calls in a window: all of S3's, and one of Glue's."""

    def __init__(self, faulty: FaultyAws, position: int) -> None:
        self._calls = faulty.calls
        self._window = range(len(faulty.calls) + position, len(faulty.calls) + position + _WINDOW)
        self._glue = False
        self.failed = 0

    def __call__(self, call: Call, forward: Forward) -> Answer | None:
        answer = forward()
        if self._calls.index(call) not in self._window or (call.action != "S3" and self._glue):
            return answer
        self._glue = self._glue or call.action != "S3"
        self.failed += 1
        return None


def test_a_commit_that_arrives_late_is_refused(
    s3: S3Client, faulty: FaultyAws, settings: CompactSettings, topic: str, bucket: str
) -> None:
    """A zombie: its commit is held back until another compaction has done the work."""
    put_batch(s3, bucket, prices(topic, 0, range(10)), 0, 10)
    compact(settings, topic, {0: 10})
    put_batch(s3, bucket, prices(topic, 0, range(10, 20)), 10, 20)
    late = Gate(SECONDS)
    faulty.once("UpdateTable", late)
    results: list[Done] = []
    zombie = threading.Thread(target=lambda: results.append(compact(settings, topic, {0: 20})))
    zombie.start()
    late.wait()
    compact(settings, topic, {0: 20})
    late.release()
    zombie.join(SECONDS)
    assert results[0].rows == 0
    assert results[0].refused == 1
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 20))


def test_a_late_commit_without_rows_does_not_move_the_watermark_back(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str
) -> None:
    put_events(s3, bucket, prices(topic, 0, range(3)))
    compact(settings, topic, {0: 3})
    with connect(settings, topic) as parts:
        stale = parts.table.load()
        assert stale is not None
        put_events(s3, bucket, prices(topic, 0, [8]))
        compact(settings, topic, {0: 9})
        part = {0: stale.watermarks[0]._replace(offset=5)}
        with pytest.raises(iceberg_table.CommitRefusedError):
            parts.table.commit(stale, stale.columns, [], part)
    compact(settings, topic, {0: 9})
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 3), (0, 8, 9))


def test_with_pyicebergs_own_retry_a_compaction_doubles_rows(
    s3: S3Client, settings: CompactSettings, topic: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the table says `commit.retry.num-retries=0`."""
    monkeypatch.delitem(iceberg_table._PROPERTIES, "commit.retry.num-retries")
    put_batch(s3, bucket, prices(topic, 0, range(10)), 0, 10)
    compact(settings, topic, {0: 10})
    put_batch(s3, bucket, prices(topic, 0, range(10, 20)), 10, 20)
    with connect(settings, topic) as parts:
        stale = parts.table.load()
        assert stale is not None
        part = parts.compactor.planned({0: 20})
        columns, written = parts.compactor.build(stale, part)
        compact(settings, topic, {0: 20})
        parts.table.commit(stale, columns, written.files, {0: part[0].end})
    assert offsets(read_table(s3, settings, topic)) == expected((0, 0, 20)) + expected((0, 10, 20))


def test_with_the_sdks_retry_and_pyicebergs_deletes_a_lost_answer_breaks_the_table(
    s3: S3Client,
    faulty: FaultyAws,
    settings: CompactSettings,
    topic: str,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Why a commit has one attempt, and why files are never deleted by a commit."""
    put_batch(s3, bucket, prices(topic, 0, range(10)), 0, 10)
    compact(settings, topic, {0: 10})
    put_batch(s3, bucket, prices(topic, 0, range(10, 20)), 10, 20)

    def delete(_: S3Files, location: Any) -> None:
        place, key = place_of(str(getattr(location, "location", location)))
        s3.delete_object(Bucket=place, Key=key)

    client = aws_clients.client
    monkeypatch.setattr(
        aws_clients, "client", lambda name, at, **options: client(name, at, **{**options, "attempts": 4})
    )
    with connect(settings, topic) as parts, monkeypatch.context() as naive:
        naive.setattr(S3Files, "delete", delete)
        state = parts.table.load()
        assert state is not None
        part = parts.compactor.planned({0: 20})
        columns, written = parts.compactor.build(state, part)
        faulty.once("UpdateTable", lost)
        with pytest.raises(iceberg_table.CommitRefusedError) as refused:
            parts.table.commit(state, columns, written.files, {0: part[0].end})
        assert isinstance(refused.value.__cause__, CommitFailedException)
    with pytest.raises(ClientError, match="NoSuchKey"):
        read_table(s3, settings, topic)
