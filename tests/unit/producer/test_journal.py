"""What a run finds in the topic before it sends, and what it detects while it sends."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed_common.errors import LakefeedError
from lakefeed_producer.csv.byte_columns import ByteColumn
from lakefeed_producer.csv.locking import lock_file
from lakefeed_producer.errors import BusyError, ChangedError
from lakefeed_producer.kafka.journal import Journal, Tracker
from lakefeed_producer.kafka.publication import RUN_ROWS, Publication
from tests.helpers.memory_topic import MemoryTopic

SHA = "0123456789abcdef" * 4
OTHER = "f" * 64
NOW = 1_700_000_000_000
HOUR = 3_600_000


def nothing() -> None:
    """A heartbeat without a listener."""


def resume(topic: MemoryTopic, sha: str = SHA, *, rows: int = 1_000, modified: int = NOW) -> Tracker:
    return topic.connection().journal.resume(b"a.csv", sha, modified * 1_000_000, rows, nothing)


def publication(
    topic: MemoryTopic, sha: str = SHA, *, source: bytes = b"a.csv", began: int = NOW
) -> Publication:
    return Publication.new(source, sha, len(topic.found), began)


def spread(one: Publication, rows: Sequence[int], keys: Sequence[bytes] | None = None) -> list[int]:
    texts = None if keys is None else ByteColumn.of(keys)
    partitions: list[int] = one.assign_partitions(np.array(rows), texts).tolist()
    return partitions


def put(topic: MemoryTopic, one: Publication, *rows: int, at: int | None = None) -> None:
    numbers = list(rows)
    for row, partition in zip(numbers, spread(one, numbers), strict=True):
        topic.put(one, partition, row, one.began if at is None else at)


def present(tracker: Tracker, rows: int = 1_000) -> set[int]:
    return {row for row in range(1, rows + 1) if tracker.in_topic.rows[row]}


def test_an_empty_topic_begins_a_publication() -> None:
    tracker = resume(MemoryTopic(4))
    one = tracker.in_topic.publication
    assert (one.source, one.digest, one.partitions) == (b"a.csv", SHA[:16], 4)
    assert Publication.of(one.source, one.mark) == one


def test_rows_with_gaps_are_found_in_every_partition() -> None:
    topic = MemoryTopic(4)
    put(topic, publication(topic, OTHER, source=b"b.csv", began=NOW - 5), 1, 2, 3)
    put(topic, publication(topic), *range(1, 51), *range(301, 351), *range(101, 111))
    tracker = resume(topic)
    assert present(tracker) == {*range(1, 51), *range(301, 351), *range(101, 111)}
    assert tracker.in_topic.publication == publication(topic)


def test_partitions_that_were_added_stay_unused() -> None:
    topic = MemoryTopic(2)
    put(topic, publication(topic), *range(1, 51))
    topic.found.append([])
    topic.times.append([])
    topic.first.append(0)
    one = resume(topic).in_topic.publication
    assert set(spread(one, range(1, 1001))) == {0, 1}
    assert set(spread(one, range(1, 1001), [b"%d" % row for row in range(1000)])) == {0, 1}


def test_a_row_and_a_key_have_one_partition_each() -> None:
    topic = MemoryTopic(4)
    one = publication(topic)
    rows = list(range(1, 10 * RUN_ROWS))
    assert spread(one, rows) == [(row - 1) // RUN_ROWS % 4 for row in rows]
    assert len(set(spread(one, rows, [b"key"] * len(rows)))) == 1
    # The result of librdkafka's partitioner, CRC-32.
    assert spread(one, [1], [b"123456789"]) == [0xCBF43926 % 4]


def test_different_content_under_the_name_is_refused() -> None:
    topic = MemoryTopic()
    put(topic, publication(topic, OTHER), 1, 2, 3)
    with pytest.raises(ChangedError, match=r"a.csv: its content differs .* 2023-11-14 22:13:20 UTC"):
        resume(topic)
    # As it would be after `--republish`: the newest publication is the one that counts.
    put(topic, publication(topic, began=NOW + 1), 1)
    assert present(resume(topic)) == {1}
    with pytest.raises(ChangedError):
        resume(topic, OTHER)


def test_the_newest_publication_is_resumed() -> None:
    topic = MemoryTopic()
    put(topic, publication(topic), *range(1, 1001))
    put(topic, publication(topic, began=NOW + 1), 1, 2)
    assert present(resume(topic)) == {1, 2}


def test_a_new_file_costs_a_bounded_read_of_a_huge_topic() -> None:
    topic = MemoryTopic(2)
    put(topic, publication(topic, OTHER, source=b"b.csv"), *range(1, 40_001), at=NOW - HOUR)
    assert not present(resume(topic))
    assert topic.read_records == 10_000
    # For an old file that has not been published, everything since is read.
    topic.read_records = 0
    resume(topic, modified=NOW - 2 * HOUR)
    assert topic.read_records == 40_000


def test_each_part_of_the_topic_is_read_once_and_own_records_not_at_all() -> None:
    topic = MemoryTopic(2)
    put(topic, publication(topic, OTHER, source=b"b.csv"), *range(1, 5_001))
    journal = topic.connection().journal
    for number in range(20):
        name = b"%d.csv" % number
        tracker = journal.resume(name, SHA, NOW * 1_000_000, 100, nothing)
        put(topic, tracker.in_topic.publication, *range(1, 101))
        tracker.check(100, 100, nothing)
        tracker.done()
    assert topic.read_records == 5_000
    again = journal.resume(b"7.csv", SHA, NOW * 1_000_000, 100, nothing)
    assert present(again, 100) == set(range(1, 101))


def test_a_file_that_was_touched_is_known_by_the_end_of_the_topic() -> None:
    topic = MemoryTopic()
    put(topic, publication(topic, began=NOW - 9 * HOUR), *range(1, 901))
    put(topic, publication(topic, OTHER, source=b"b.csv"), *range(1, 9_500))
    assert present(resume(topic, modified=NOW)) == set(range(1, 901))


def test_rows_that_retention_has_deleted_are_not_sent_again() -> None:
    topic = MemoryTopic(2)
    put(topic, publication(topic), *range(1, 701))
    # The first records of partition 0 are deleted: rows 1 to 100, and 201 to 250.
    topic.first = [150, 0]
    topic.read = lambda begin, end, beat: (  # type: ignore[method-assign]
        found
        for found in MemoryTopic.read(topic, begin, end, beat)
        if found.offset >= topic.first[found.partition]
    )
    arrivals = resume(topic).in_topic
    rows = np.arange(1, 1001)
    there = arrivals.present(rows, arrivals.publication.assign_partitions(rows, None))
    assert rows[~there].tolist() == list(range(701, 1001))


def test_a_producer_that_keeps_sending_is_detected_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakefeed_producer.kafka.journal._BUSY_SECONDS", 0.2)
    topic = MemoryTopic()
    sent = count(1)
    put(topic, publication(topic), next(sent))

    def beat() -> None:
        put(topic, publication(topic), next(sent))

    with pytest.raises(BusyError, match=r"a.csv is being published by another producer: rows of it arrive"):
        topic.connection().journal.resume(b"a.csv", SHA, NOW, 1_000, beat)


def test_requests_in_flight_of_a_killed_producer_are_waited_for() -> None:
    topic = MemoryTopic()
    put(topic, publication(topic), 1)
    late = iter([2, 3])

    def beat() -> None:
        put(topic, publication(topic), *[row for row in [next(late, 0)] if row])

    tracker = topic.connection().journal.resume(b"a.csv", SHA, NOW, 1_000, beat)
    assert present(tracker) == {1, 2, 3}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_another_producer_of_the_same_file_is_detected(same: bool, new: bool) -> None:
    topic = MemoryTopic()
    if not new:
        put(topic, publication(topic, began=NOW - 5), 1, 2, 3)
        put(topic, publication(topic), 1)
    tracker = resume(topic)
    ours = tracker.in_topic.publication
    # It resumes the same publication, or has started another.
    other = ours if same else publication(topic, began=NOW + 7)
    put(topic, ours, 2, 3)
    tracker.check(2, 2, nothing)
    put(topic, other, 2)
    put(topic, ours, 4)
    with pytest.raises(BusyError, match=r"a.csv is being published by another producer too"):
        tracker.check(3, 3, nothing)


def test_others_may_write_to_the_topic() -> None:
    topic = MemoryTopic()
    tracker = resume(topic)
    for number in range(1, 6):
        put(topic, tracker.in_topic.publication, number)
        put(topic, publication(topic, source=b"b.csv"), number, number + 1)
        tracker.check(number, number, nothing)


def test_a_topic_that_was_emptied_is_detected() -> None:
    topic = MemoryTopic()
    tracker = resume(topic)
    put(topic, tracker.in_topic.publication, 1, 2, 3)
    tracker.check(3, 3, nothing)
    topic.found[0].clear()
    with pytest.raises(LakefeedError, match="the topic was deleted or emptied during the run"):
        tracker.check(3, 3, nothing)


@given(seed=st.integers(0, 1 << 30), partitions=st.integers(1, 5), keyed=st.booleans())
@settings(deadline=None, max_examples=40)
def test_any_kills_leave_each_row_once_and_in_order(seed: int, partitions: int, keyed: bool) -> None:
    """Partitions advance independently: any prefix of each may have arrived from a killed run."""
    chance = random.Random(seed)
    topic = MemoryTopic(partitions)
    total = chance.randrange(1, 1_000)
    keys = {row: b"%d" % chance.randrange(20) if keyed else b"" for row in range(1, total + 1)}
    for _ in range(chance.randrange(1, 6)):
        tracker = resume(topic, rows=total)
        sent: dict[int, list[int]] = {}
        one = tracker.in_topic.publication
        for row in sorted(set(keys) - present(tracker, total)):
            sent.setdefault(spread(one, [row], [keys[row]])[0], []).append(row)
        for partition, rows in sent.items():
            for row in rows[: chance.randrange(len(rows) + 1)]:
                topic.put(one, partition, row)
        if chance.random() < 0.5:
            topic.found.append([])
            topic.times.append([])
            topic.first.append(0)
    tracker = resume(topic, rows=total)
    one = tracker.in_topic.publication
    for row in sorted(set(keys) - present(tracker, total)):
        topic.put(one, spread(one, [row], [keys[row]])[0], row)
    rows = [found.row for log in topic.found for found in log]
    assert sorted(rows) == list(range(1, total + 1))
    for log in topic.found:
        assert [found.row for found in log] == sorted(found.row for found in log)


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n\n1\n")
    busy = pytest.raises(BusyError, match="is being published by another lakefeed-producer")
    with lock_file(path), busy, lock_file(path):
        pass
    with lock_file(path):
        pass


def test_requests_in_flight_are_waited_for_before_a_file_counts_as_new() -> None:
    topic = MemoryTopic()
    journal = Journal(topic, quiet_seconds=0.2)
    late = iter([1])

    def beat() -> None:
        put(topic, publication(topic), *late)

    assert present(journal.resume(b"a.csv", SHA, NOW, 10, beat), 10) == {1}
