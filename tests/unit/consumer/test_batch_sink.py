"""The sink for batches: what ends a batch, what an existing one means, stops, rebalances, failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from lakefeed_common.lake.keys import batch_key, event_key
from lakefeed_common.lake.metadata import BatchMetadata
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.dead_letters.limit import DeadLetterLimitError
from lakefeed_consumer.object_store import NO_METADATA, StoreRefusedError, StoreUnavailableError
from lakefeed_consumer.sink.batches.batch_sink import Pace
from lakefeed_consumer.sink.batches.chain import Limits
from tests.helpers.batch_bench import LONG, BatchBench
from tests.helpers.memory_store import Fault, MemoryStore

P0, P1 = Partition("t", 0), Partition("t", 1)
NOON = 1_767_268_800_000
DAY_MS = 86_400_000


def record(
    offset: int, value: bytes | None = b'{"a":1}', partition: Partition = P0, at: int = NOON
) -> Record:
    return Record(partition, offset, at, b"k", value, (("source", b"a.csv"),))


def run(
    scenario: Callable[[BatchBench], Awaitable[None]], store: MemoryStore | None = None, pace: Pace = LONG
) -> None:
    async def whole() -> None:
        bench = BatchBench(store or MemoryStore(), pace)
        bench.sink.resume({P0: 0, P1: 0})
        try:
            await scenario(bench)
        finally:
            await bench.sink.close()

    asyncio.run(whole())


def pace(**change: object) -> Pace:
    values = {"size": 1_000_000, "records": 1000, "linger": 3600.0, "memory": 10_000_000} | change
    return Pace(Limits(values["size"], values["records"]), values["linger"], values["memory"])  # type: ignore[arg-type]


def test_a_batch_ends_at_its_count_and_holds_whole_records() -> None:
    records = [record(offset) for offset in range(25)]

    async def scenario(bench: BatchBench) -> None:
        await bench.sink.submit(records)
        await bench.until(lambda: bench.sink.in_flight == 5)
        assert bench.batches() == {(0, 0): records[:10], (0, 10): records[10:20]}
        assert bench.reported == [(P0, 9), (P0, 19)]
        metadata = BatchMetadata.parse(bench.store.described[batch_key("batches", records[0], 0)])
        assert (metadata.end, metadata.records, metadata.first_timestamp_ms) == (10, 10, NOON)
        assert bench.value("lakefeed_consumer_batches_total", outcome="stored") == 2
        assert bench.value("lakefeed_consumer_objects_total", outcome="stored") == 20
        assert bench.value("lakefeed_consumer_batch_events_count") == 2
        assert bench.value("lakefeed_consumer_event_age_seconds_count") == 20

    run(scenario, pace=pace(records=10))


def test_a_batch_ends_at_its_size() -> None:
    async def scenario(bench: BatchBench) -> None:
        await bench.sink.submit([record(offset, b'{"a":"%s"}' % (b"x" * 400)) for offset in range(4)])
        await bench.until(lambda: not bench.sink.in_flight)
        assert list(bench.batches()) == [(0, 0), (0, 2)]

    run(scenario, pace=pace(size=800))


def test_a_batch_ends_after_its_linger() -> None:
    async def scenario(bench: BatchBench) -> None:
        for offset in range(3):
            await bench.sink.submit([record(offset)])
        await bench.until(lambda: bench.reported == [(P0, 2)])
        await bench.sink.submit([record(3)])
        await bench.until(lambda: bench.reported == [(P0, 2), (P0, 3)])

    run(scenario, pace=pace(linger=0.05))


def test_a_batch_ends_with_its_day() -> None:
    midnight = NOON + DAY_MS // 2
    times = [NOON, midnight - 1, midnight, midnight - 1, midnight + 1]

    async def scenario(bench: BatchBench) -> None:
        await bench.sink.submit([record(offset, at=at) for offset, at in enumerate(times)])
        await bench.sink.drain(60)
        found = {start: len(records) for (_, start), records in bench.batches().items()}
        assert found == {0: 2, 2: 1, 3: 1, 4: 1}
        days = [key.split("dt=")[1][:10] for key in sorted(bench.store.objects, key=lambda key: key[-28:])]
        assert days == ["2026-01-01", "2026-01-02", "2026-01-01", "2026-01-02"]

    run(scenario)


def test_a_batch_starts_at_its_position_and_not_at_its_first_offset() -> None:
    async def scenario(bench: BatchBench) -> None:
        bench.sink.resume({P0: 5})
        await bench.sink.submit([record(8), record(12)])
        await bench.sink.drain(60)
        await bench.sink.submit([record(20)])
        await bench.sink.drain(60)
        assert list(bench.batches()) == [(0, 5), (0, 13)]
        assert bench.reported == [(P0, 12), (P0, 20)]

    run(scenario)


def test_dead_letters_are_stored_before_their_batch() -> None:
    values = [b"no json", b'{"n":1}', b'{"_Kafka":1}', None]
    records = [record(offset, value) for offset, value in enumerate(values)]

    async def scenario(bench: BatchBench) -> None:
        await bench.sink.submit(records)
        await bench.sink.drain(60)
        *letters, batch = bench.store.objects
        assert set(letters) == {event_key("dead", records[n]) for n in (0, 2, 3)}
        assert batch == batch_key("batches", records[0], 0)
        assert bench.batches() == {(0, 0): [records[1]]}
        assert bench.reported == [(P0, 3)]
        assert bench.value("lakefeed_consumer_objects_total", outcome="dead_letter") == 3

    run(scenario)


def test_a_batch_of_dead_letters_alone_is_an_empty_link_of_the_chain() -> None:
    async def scenario(bench: BatchBench) -> None:
        await bench.sink.submit([record(0, None)])
        await bench.sink.drain(60)
        assert bench.batches() == {(0, 0): []}
        assert bench.reported == [(P0, 0)]

    run(scenario)


@pytest.mark.parametrize("theirs", [3, 10, 14, 30])
def test_another_workers_batch_is_adopted(theirs: int) -> None:
    records = [record(offset) for offset in range(40)]

    async def scenario(bench: BatchBench) -> None:
        other = BatchBench(bench.store)
        other.sink.resume({P0: 0})
        await other.sink.submit(records[:theirs])
        await other.sink.drain(60)
        await bench.sink.submit(records[:15])
        await bench.sink.submit(records[15:])
        await bench.sink.drain(60)
        assert bench.reported[0] == (P0, theirs - 1)
        assert bench.reported[-1] == (P0, 39)
        stored = [each for _, batch in sorted(bench.batches().items()) for each in batch]
        assert stored == records
        assert bench.value("lakefeed_consumer_batches_total", outcome="adopted") == 1
        assert bench.value("lakefeed_consumer_objects_total", outcome="stored") == 40 - theirs
        await other.sink.close()

    run(scenario, pace=pace(records=10))


def test_records_that_arrive_after_their_batch_was_adopted_are_dropped() -> None:
    records = [record(offset) for offset in range(30)]

    async def scenario(bench: BatchBench) -> None:
        other = BatchBench(bench.store)
        other.sink.resume({P0: 0})
        await other.sink.submit(records[:20])
        await other.sink.drain(60)
        await bench.sink.submit(records[:10])
        await bench.until(lambda: bench.reported == [(P0, 19)])
        await bench.sink.submit(records[10:15])
        assert bench.sink.in_flight == 0
        await bench.sink.submit(records[15:])
        await bench.sink.drain(60)
        assert bench.batches() == {(0, 0): records[:20], (0, 20): records[20:]}
        await other.sink.close()

    run(scenario, pace=pace(records=10))


def test_a_batch_of_a_recreated_topic_is_kept_as_a_conflict_and_never_replaces() -> None:
    old, new = [record(n, b'{"old":1}') for n in range(3)], [record(n, b'{"new":1}') for n in range(5)]

    async def scenario(bench: BatchBench) -> None:
        await bench.sink.submit(old)
        await bench.sink.drain(60)
        # Two workers of the new topic, one of which was fenced: one conflict is kept.
        other = BatchBench(bench.store)
        for each, count in ((other, 3), (bench, 4)):
            each.sink.resume({P0: 0})
            await each.sink.submit(new[:count])
            await each.sink.drain(60)
        assert bench.batches() == {(0, 0): old, (0, 3): new[3:4]} or bench.batches() == {(0, 0): old}
        kept = [key for key in bench.store.objects if key.startswith("dead/")]
        assert len(kept) == 1
        assert BatchMetadata.parse(bench.store.described[kept[0]]).records == 3
        assert other.value("lakefeed_consumer_batches_total", outcome="conflict") == 1
        assert other.value("lakefeed_consumer_objects_total", outcome="conflict") == 3
        assert other.reported == [(P0, 2)]
        assert bench.reported[-1] == (P0, 3)
        await other.sink.close()

    run(scenario)


def test_an_object_that_is_not_a_batch_is_a_conflict() -> None:
    async def scenario(bench: BatchBench) -> None:
        bench.store.objects[batch_key("batches", record(0), 0)] = b"foreign"
        await bench.sink.submit([record(0)])
        await bench.sink.drain(60)
        assert bench.value("lakefeed_consumer_batches_total", outcome="conflict") == 1
        assert bench.store.objects[batch_key("batches", record(0), 0)] == b"foreign"
        assert bench.reported == [(P0, 0)]

    run(scenario)


def test_a_put_whose_response_was_lost_is_adopted() -> None:
    class Forgetful(MemoryStore):
        async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
            known = key in self.objects
            await super().create(key, body, metadata)
            if not known:
                raise StoreUnavailableError("connection reset", "connection")

    async def scenario(bench: BatchBench) -> None:
        await bench.sink.submit([record(offset) for offset in range(5)])
        await bench.sink.drain(60)
        assert {key: len(found) for key, found in bench.batches().items()} == {(0, 0): 5}
        assert bench.reported == [(P0, 4)]

    run(scenario, Forgetful())


def test_batches_of_a_partition_are_put_one_after_the_other_those_of_others_at_once() -> None:
    async def scenario(bench: BatchBench) -> None:
        bench.store.hold = asyncio.Event()
        for partition in (P0, P1):
            await bench.sink.submit([record(offset, partition=partition) for offset in range(30)])
        await bench.until(lambda: bench.store.most_at_once == 2)
        bench.store.hold.set()
        await bench.until(lambda: bench.sink.in_flight == 0)
        assert bench.store.most_at_once == 2
        assert len(bench.batches()) == 6

    run(scenario, pace=pace(records=10))


def test_memory_is_bounded_over_all_partitions_and_the_largest_batch_goes_first() -> None:
    async def scenario(bench: BatchBench) -> None:
        bench.store.hold = asyncio.Event()
        await bench.sink.submit([record(offset, partition=P1) for offset in range(5)])
        feeding = asyncio.create_task(bench.sink.submit([record(offset) for offset in range(50)]))
        await bench.until(lambda: bench.store.most_at_once == 1)
        assert not feeding.done()
        bench.store.hold.set()
        await feeding
        assert list(bench.batches()) == [(0, 0)]
        assert bench.sink.in_flight == 5

    run(scenario, pace=pace(memory=3_000))


def test_a_drain_puts_open_batches_and_those_of_records_that_still_arrive() -> None:
    async def scenario(bench: BatchBench) -> None:
        bench.store.hold = asyncio.Event()
        await bench.sink.submit([record(0)])
        draining = asyncio.create_task(bench.sink.drain(60))
        await bench.until(lambda: bench.store.most_at_once == 1)
        await bench.sink.submit([record(1)])
        bench.store.hold.set()
        assert await draining == 0
        assert list(bench.batches()) == [(0, 0), (0, 1)]

    run(scenario)


def test_a_drain_that_takes_too_long_says_how_many_events_are_left() -> None:
    async def scenario(bench: BatchBench) -> None:
        bench.store.hold = asyncio.Event()
        await bench.sink.submit([record(offset) for offset in range(7)])
        assert await bench.sink.drain(0.05) == 7
        assert bench.reported == []

    run(scenario)


def test_a_revoked_partition_is_not_reported_although_its_put_ends() -> None:
    async def scenario(bench: BatchBench) -> None:
        bench.store.hold = asyncio.Event()
        await bench.sink.submit([record(offset) for offset in range(25)])
        await bench.until(lambda: bench.store.most_at_once == 1)
        bench.sink.revoke([P0])
        assert bench.sink.in_flight == 0
        # It comes back and is read again: the batch that has landed meanwhile is adopted.
        bench.sink.resume({P0: 0})
        bench.store.hold.set()
        await bench.until(lambda: len(bench.store.objects) == 1)
        assert bench.reported == []
        await bench.sink.submit([record(offset) for offset in range(25)])
        await bench.sink.drain(60)
        assert bench.reported == [(P0, 9), (P0, 19), (P0, 24)]
        assert list(bench.batches()) == [(0, 0), (0, 10), (0, 20)]

    run(scenario, pace=pace(records=10))


def test_a_log_that_was_truncated_is_compared_with_what_is_stored_from_its_start() -> None:
    async def scenario(bench: BatchBench) -> None:
        for _ in range(2):
            await bench.sink.submit([record(offset) for offset in range(20)])
            await bench.sink.drain(60)
        assert {key: len(found) for key, found in bench.batches().items()} == {(0, 0): 10, (0, 10): 10}
        assert bench.reported == [(P0, 9), (P0, 19), (P0, 9), (P0, 19)]

    run(scenario, pace=pace(records=10))


def test_records_that_kafka_deleted_unread_leave_a_gap_in_the_chain() -> None:
    async def scenario(bench: BatchBench) -> None:
        bench.sink.resume({P0: 10})
        await bench.sink.submit([record(50)])
        await bench.sink.drain(60)
        # A worker that had read the deleted records comes back.
        late = BatchBench(bench.store)
        late.sink.resume({P0: 10})
        await late.sink.submit([record(offset) for offset in range(10, 60)])
        await late.sink.drain(60)
        assert bench.batches() == {(0, 10): [record(50)]}
        assert late.value("lakefeed_consumer_batches_total", outcome="conflict") == 1
        assert sum(key.startswith("dead/") for key in bench.store.objects) == 1
        await late.sink.close()

    run(scenario)


def test_too_many_dead_letters_end_the_sink() -> None:
    async def scenario() -> None:
        bench = BatchBench(MemoryStore(), dead_letters=3)
        bench.sink.resume({P0: 0})
        await bench.sink.submit([record(offset, b"no") for offset in range(5)])
        with pytest.raises(DeadLetterLimitError):
            await asyncio.wait_for(bench.sink.failed(), 5)
        assert await bench.sink.drain(60) == 0
        assert bench.reported == []
        await bench.sink.close()

    asyncio.run(scenario())


def test_an_unexpected_failure_is_raised_and_never_acknowledged() -> None:
    class Broken(MemoryStore):
        async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
            raise RuntimeError("a bug")

    async def scenario(bench: BatchBench) -> None:
        await bench.sink.submit([record(0)])
        assert await bench.sink.drain(60) == 0
        with pytest.raises(RuntimeError, match="a bug"):
            await asyncio.wait_for(bench.sink.failed(), 5)
        assert bench.reported == []

    run(scenario, Broken())


def test_an_outage_is_reported_and_survived() -> None:
    refusing = True

    def fault(_: str) -> Fault | None:
        return StoreRefusedError("there is no such bucket") if refusing else None

    async def scenario(bench: BatchBench) -> None:
        nonlocal refusing
        await bench.sink.submit([record(0)])
        draining = asyncio.create_task(bench.sink.drain(60))
        reasons = {"bucket": "there is no such bucket"}
        await bench.until(lambda: bench.health.readiness().reasons == reasons)
        refusing = False
        assert await draining == 0
        assert bench.health.readiness().ok

    run(scenario, MemoryStore(fault))


def test_an_offset_set_by_hand_into_the_middle_of_a_batch_doubles_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    records = [record(offset, b"no json" if offset == 5 else b'{"n":%d}' % offset) for offset in range(12)]

    async def scenario(bench: BatchBench) -> None:
        await bench.sink.submit(records[:8])
        await bench.sink.drain(60)
        for position in (3, 5, 7):
            bench.sink.resume({P0: position})
            await bench.sink.submit(records[position:10])
            await bench.sink.drain(60)
        events = [each for each in records if each.offset != 5]
        assert bench.batches() == {(0, 0): events[:7], (0, 8): events[7:9]}
        assert bench.reported[-1] == (P0, 9)
        assert bench.value("lakefeed_consumer_batches_total", outcome="adopted") == 5

    run(scenario)
    (first, *_) = [each.message for each in caplog.records if "is within a batch" in each.message]
    assert first.startswith(
        "t, partition 0: the committed offset 3 is within a batch that is stored already, "
    )


def test_a_batch_with_other_events_at_these_offsets_is_not_adopted() -> None:
    async def scenario(bench: BatchBench) -> None:
        await bench.sink.submit([record(offset) for offset in range(8)])
        await bench.sink.drain(60)
        # The topic was recreated, and its first events were committed by an earlier run.
        bench.sink.resume({P0: 3})
        others = [record(offset, b'{"other":%d}' % offset) for offset in range(3, 6)]
        await bench.sink.submit(others)
        await bench.sink.drain(60)
        assert bench.batches()[0, 3] == others

    run(scenario)
