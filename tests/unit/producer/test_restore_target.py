"""The target of a restore: what is refused, where it resumes, what ends it, the offset map."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lakefeed_common.errors import LakefeedError, RefusedError, SettingsError, UnavailableError
from lakefeed_common.lake.records import Record
from lakefeed_producer.errors import BusyError
from lakefeed_producer.kafka.record_batches import BatchPart, RecordBatch
from lakefeed_producer.kafka.sender import Refusal, Report
from lakefeed_producer.restore.checks import blocking, day_ms, deleting
from lakefeed_producer.restore.delivery import Delivery
from lakefeed_producer.restore.offset_map import OffsetMap, runs
from lakefeed_producer.restore.records import Columns, Encoder
from lakefeed_producer.restore.tail import Origin, Placed, read_tail
from tests.helpers.lake_objects import DAY_MS, some_records
from tests.helpers.memory_target import MemorySender, MemoryTarget

OLDEST = day_ms("2026-01-01")
NOW = OLDEST + 30 * DAY_MS


def restored(offset: int, topic: str = "prices", partition: int = 0) -> Record:
    record = some_records([offset], partition)[0]
    return record._replace(headers=(("lakefeed-origin", f"{topic}/{partition}/{offset}".encode()),))


# ---- the topic's configuration


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"message.timestamp.type": "LogAppendTime"}, "would replace all timestamps"),
        ({"cleanup.policy": "compact,delete"}, "compaction"),
        ({"message.timestamp.before.max.ms": "1000"}, "would refuse records of 2026-01-01"),
        ({"message.timestamp.difference.max.ms": "1000"}, "would refuse records of 2026-01-01"),
    ],
)
def test_a_topic_that_would_not_keep_records_as_they_were_is_refused(
    config: dict[str, str], says: str
) -> None:
    [problem] = blocking("back", config, OLDEST, NOW)
    assert says in problem
    assert "kafka-configs.sh --alter --entity-type topics --entity-name back --add-config " in problem


def test_retention_is_looked_at_first() -> None:
    [problem] = deleting("back", {"retention.ms": str(7 * DAY_MS)}, OLDEST, NOW, 1)
    assert "(7.0 days)" in problem
    assert "retention.ms=-1" in problem
    [problem] = deleting("back", {"retention.bytes": "100"}, OLDEST, NOW, 101)
    assert "retention.bytes=-1" in problem


def test_a_topic_that_keeps_everything_is_accepted() -> None:
    config = {
        "message.timestamp.type": "CreateTime",
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.before.max.ms": str(2**63 - 1),
    }
    assert [*blocking("back", config, OLDEST, NOW), *deleting("back", config, OLDEST, NOW, 10**12)] == []
    assert [*deleting("back", {"retention.ms": str(31 * DAY_MS)}, OLDEST, NOW, 1)] == []
    assert [*blocking("back", {}, OLDEST, NOW), *deleting("back", {}, OLDEST, NOW, 1)] == []


# ---- where it resumes


def test_it_resumes_after_the_last_record_however_many_markers_follow() -> None:
    target = MemoryTarget(3)
    target.records[0] = [None, restored(4), restored(9), *[None] * 500]
    target.records[1] = [None] * 40
    assert read_tail(target, "back", "prices").positions == {0: 10}


def test_the_last_origin_counts_if_a_restored_topic_is_restored() -> None:
    headers = [("lakefeed-origin", b"prices/0/7"), ("a", b"b"), ("lakefeed-origin", b"back/0/3")]
    assert Origin.of(headers) == ("back", 0, 3)
    assert Origin.of([("lakefeed-origin", b"a/b")]) is None
    assert Origin.of(None) is None


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (some_records([1])[0], "has no header lakefeed-origin"),
        (restored(1, "other"), "was restored from other"),
        (restored(1, "prices", 1), "was restored from prices"),
    ],
)
def test_a_topic_with_other_records_is_refused(last: Record, says: str) -> None:
    target = MemoryTarget(1)
    target.records[0] = [restored(0), last, None]
    with pytest.raises(RefusedError, match="not of this restore") as caught:
        read_tail(target, "back", "prices")
    assert says in str(caught.value)
    assert "offset 1 of partition 0" in str(caught.value)


def test_a_topic_whose_records_were_deleted_is_refused() -> None:
    target = MemoryTarget(1)
    target.records[0], target.first[0] = [restored(0), None], 1
    with pytest.raises(RefusedError, match="they were deleted"):
        read_tail(target, "back", "prices")


# ---- sending


@pytest.fixture
def offset_map(tmp_path: Path) -> Iterator[OffsetMap]:
    with OffsetMap(tmp_path / "map.jsonl", "s3://lake/batches/prices", "back") as opened:
        yield opened


def encoded(count: int = 5) -> tuple[RecordBatch, Columns]:
    [one] = Encoder("prices", "none", 1_000_000).encode(Columns.of(0, some_records(range(count))))
    return one


def test_records_of_something_else_between_ours_end_the_restore(offset_map: OffsetMap) -> None:
    target = MemoryTarget(1)
    delivery = Delivery(MemorySender(target), {0: 0}, offset_map, 5)
    delivery.send(*encoded(), threading.Event())
    target.records[0].append(some_records([1])[0])
    with pytest.raises(BusyError, match="something else writes to partition 0"):
        delivery.send(*encoded(), threading.Event())
    assert delivery.records == 5


@pytest.mark.parametrize(
    ("refusal", "error", "says"),
    [
        (
            Refusal(BatchPart(0, slice(2, 3)), "too big", too_large=True, retryable=False),
            RefusedError,
            "max.message.bytes",
        ),
        (
            Refusal(BatchPart(0, slice(0, 5)), "gone", too_large=False, retryable=True),
            UnavailableError,
            "gone",
        ),
        (
            Refusal(BatchPart(0, slice(0, 5)), "bad", too_large=False, retryable=False),
            RefusedError,
            "offset 0",
        ),
    ],
)
def test_what_the_broker_refuses_ends_the_restore_with_the_record(
    refusal: Refusal, error: type[LakefeedError], says: str, offset_map: OffsetMap
) -> None:
    sender = MemorySender(MemoryTarget(1))
    records, columns = encoded()
    delivery = Delivery(sender, {0: 0}, offset_map, 5)
    sender.put = lambda one: sender.reports.put(Report(one, [refusal], None))  # type: ignore[method-assign,assignment]
    with pytest.raises(error, match=says):
        delivery.send(records, columns, threading.Event())
    assert delivery.records == 0


def test_a_broker_that_does_not_answer_ends_the_restore(offset_map: OffsetMap) -> None:
    sender = MemorySender(MemoryTarget(1))
    sender.put = lambda _: None  # type: ignore[method-assign,assignment]
    delivery = Delivery(sender, {0: 0}, offset_map, 0.2)
    delivery.send(*encoded(), threading.Event())
    with pytest.raises(UnavailableError, match=r"no acknowledgement for 0.2 s"):
        delivery.drain()


# ---- the offset map


def test_runs_are_consecutive_in_both_topics() -> None:
    old, new = np.array([5, 6, 7, 9, 10, 11]), np.array([0, 1, 2, 3, 4, 9])
    assert list(runs(old, new)) == [(5, 0, 3), (9, 3, 2), (11, 9, 1)]


def test_the_offset_map_is_continued_and_a_line_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "map.jsonl"
    with OffsetMap(path, "s3://a/b/c", "back") as first:
        first.add(0, np.array([5, 6]), np.array([0, 1]))
        first.add(1, np.array([5]), np.array([3]))
    path.write_bytes(path.read_bytes()[:-5])
    with OffsetMap(path, "s3://a/b/c", "back") as again:
        assert again.ends == {0: 2}
        again.add(1, np.array([5]), np.array([3]))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"source": "s3://a/b/c", "target": "back"},
        {"partition": 0, "old": 5, "new": 0, "count": 2},
        {"partition": 1, "old": 5, "new": 3, "count": 1},
    ]


def test_two_restores_do_not_write_one_offset_map_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "map.jsonl"
    with OffsetMap(path, "s3://a/b/c", "back") as first:
        with pytest.raises(BusyError, match=r"another restore is writing the offset map .*map\.jsonl"):
            OffsetMap(path, "s3://a/b/c", "back").__enter__()
        first.add(0, np.array([5, 6]), np.array([0, 1]))
    with OffsetMap(path, "s3://a/b/c", "back") as again:
        assert again.ends == {0: 2}


def test_the_layouts_of_one_topic_have_one_offset_map(tmp_path: Path) -> None:
    path = tmp_path / "map.jsonl"
    with OffsetMap(path, "s3://a/events/c", "back") as first:
        first.add(0, np.array([5, 6]), np.array([0, 1]))
    with OffsetMap(path, "s3://a/batches/c s3://a/events/c", "back") as again:
        assert again.restored[0].between(0, 10) == 2
    for other in ("s3://b/events/c", "s3://a/events/d"):
        with pytest.raises(SettingsError, match="offset map of another restore"):
            OffsetMap(path, other, "back").__enter__()


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("name", "says"),
    [("no/map.jsonl", "cannot be written: No such"), (".", "regular file"), ("/dev/null", "regular file")],
)
def test_a_file_that_cannot_be_an_offset_map_is_named(
    tmp_path: Path, name: str, says: str, dry_run: bool
) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        OffsetMap(tmp_path / name, "s3://a/b/c", "back", dry_run=dry_run).__enter__()
    assert f"the offset map {tmp_path / name} " in str(caught.value)


def test_a_dry_run_reads_the_offset_map_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "map.jsonl"
    with OffsetMap(path, "s3://a/b/c", "back", dry_run=True) as dry:
        dry.complete([Placed(0, 3, Origin("c", 0, 7))])
        assert dry.restored[0].between(7, 8) == 1
    assert not path.exists()
    with OffsetMap(path, "s3://a/b/c", "back") as first:
        first.add(0, np.array([5, 6]), np.array([0, 1]))
    before = path.read_bytes()
    with OffsetMap(path, "s3://a/b/c", "back", dry_run=True) as dry:
        assert dry.ends == {0: 2}
        dry.complete([Placed(0, 3, Origin("c", 0, 7))])
    assert path.read_bytes() == before


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "map.jsonl"
    OffsetMap(path, "s3://a/b/c", "back").__enter__().__exit__(None, None, None)
    with pytest.raises(SettingsError, match="offset map of another restore: s3://a/b/c to back"):
        OffsetMap(path, "s3://a/b/c", "other").__enter__()
    path.write_text("important\n")
    with pytest.raises(SettingsError, match="is not an offset map"):
        OffsetMap(path, "s3://a/b/c", "back").__enter__()
    assert path.read_text() == "important\n"
    with pytest.raises(SettingsError, match="cannot be written"):
        OffsetMap(tmp_path / "no" / "map.jsonl", "s3://a/b/c", "back").__enter__()
