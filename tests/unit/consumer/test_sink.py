from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import orjson
import pytest

from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.metadata import EventMetadata
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.dead_letters.limit import DeadLetterLimitError
from lakefeed_consumer.object_store import NO_METADATA, StoreRefusedError, StoreUnavailableError
from lakefeed_consumer.sink.sink import Sink
from tests.helpers.memory_store import Fault, MemoryStore
from tests.helpers.sink_bench import Bench

P0, P1 = Partition("t", 0), Partition("t", 1)


def record(offset: int, value: bytes | None = b'{"a":1}', partition: Partition = P0) -> Record:
    return Record(partition, offset, 1_767_225_600_000, None, value)


def test_each_record_becomes_its_own_object_byte_for_byte() -> None:
    async def scenario() -> None:
        bench = Bench(MemoryStore())
        bodies = {offset: b'{"n": %d,  "pad":"\\u00e9"}' % offset for offset in range(50)}
        await bench.sink.submit(record(offset, body) for offset, body in bodies.items())
        await bench.settled()
        assert bench.store.objects == {
            event_key("events", record(offset)): body for offset, body in bodies.items()
        }
        assert bench.reported[-1] == (P0, 49)
        assert bench.outcome("stored") == 50
        assert bench.health.readiness().ok

    asyncio.run(scenario())


def test_metadata_of_objects_holds_what_bodies_do_not() -> None:
    async def scenario() -> None:
        bench = Bench(MemoryStore())
        headers = (("source", b"a.csv"), ("row", None))
        event = record(0)._replace(key=b"MSFT", headers=headers)
        await bench.sink.submit([event, record(1, b"no event")])
        await bench.settled()
        metadata = EventMetadata.parse(bench.store.described[event_key("events", event)])
        assert metadata == EventMetadata(event.timestamp_ms, b"MSFT", headers, ())
        assert bench.store.described[event_key("dead", record(1))] == {}

    asyncio.run(scenario())


def test_offsets_are_reported_in_order_while_puts_end_in_any_order() -> None:
    rng = random.Random(7)

    def fault(_: str) -> Fault | None:
        return StoreUnavailableError("busy", "slow_down") if rng.random() < 0.5 else None

    async def scenario() -> None:
        bench = Bench(MemoryStore(fault), in_flight=16)
        await bench.sink.submit(record(n // 2, partition=(P0, P1)[n % 2]) for n in range(400))
        await bench.settled()
        for partition in (P0, P1):
            offsets = [offset for where, offset in bench.reported if where == partition]
            assert offsets == sorted(offsets)
            assert offsets[-1] == 199
        assert len(bench.store.objects) == 400
        assert bench.value("lakefeed_consumer_put_retries_total", cause="slow_down")

    asyncio.run(scenario())


def test_no_offset_is_reported_past_an_unfinished_put() -> None:
    late = event_key("events", record(0))
    away = True

    def fault(key: str) -> Fault | None:
        return StoreUnavailableError("no answer", "timeout") if away and key == late else None

    async def scenario() -> None:
        nonlocal away
        bench = Bench(MemoryStore(fault))
        await bench.sink.submit(record(offset) for offset in range(8))
        await bench.until(lambda: len(bench.store.objects) == 7)
        assert bench.reported == []
        away = False
        await bench.settled()
        assert bench.reported == [(P0, 7)]

    asyncio.run(scenario())


def test_memory_is_bounded_while_the_store_is_unavailable() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        store.hold = asyncio.Event()
        bench = Bench(store, in_flight=4)
        feeding = asyncio.create_task(bench.sink.submit(record(offset) for offset in range(100)))
        await bench.until(lambda: store.most_at_once == 4)
        assert bench.value("lakefeed_consumer_in_flight_events") == 4
        assert not feeding.done()
        store.hold.set()
        await feeding
        await bench.settled()
        assert store.most_at_once == 4
        assert len(store.objects) == 100

    asyncio.run(scenario())


def test_a_second_delivery_changes_no_object_and_counts_as_stored() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        first, second = Bench(store), Bench(store)
        await first.sink.submit([record(1), record(2, b"no")])
        await first.settled()
        before = dict(store.objects)
        await second.sink.submit([record(1), record(2, b"no")])
        await second.settled()
        assert store.objects == before
        assert second.reported[-1] == (P0, 2)
        assert (second.outcome("already_there"), second.outcome("dead_letter")) == (1, 1)

    asyncio.run(scenario())


def test_another_body_under_the_key_is_a_conflict_and_dead_lettered() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        for body in (b'{"v":1}', b'{"v":2}', b'{"v":3}'):
            bench = Bench(store)
            await bench.sink.submit([record(1, body)])
            await bench.settled()
        assert store.objects[event_key("events", record(1))] == b'{"v":1}'
        dead_letters = [orjson.loads(body) for key, body in store.objects.items() if key.startswith("dead/")]
        assert len(dead_letters) == 2
        assert all("conflict" in each["reason"] for each in dead_letters)
        assert bench.outcome("conflict") == 1

    asyncio.run(scenario())


def test_an_invalid_event_is_dead_lettered_and_acknowledged() -> None:
    async def scenario() -> None:
        bench = Bench(MemoryStore())
        await bench.sink.submit([record(0, None), record(1, b"[]"), record(2, b"{"), record(3)])
        await bench.settled()
        dead = sorted(key for key in bench.store.objects if key.startswith("dead/"))
        assert dead == [event_key("dead", record(offset)) for offset in (0, 1, 2)]
        assert bench.reported[-1] == (P0, 3)
        assert bench.outcome("dead_letter") == 3

    asyncio.run(scenario())


def test_beyond_the_limit_no_dead_letter_is_stored_and_none_is_acknowledged() -> None:
    async def scenario() -> None:
        bench = Bench(MemoryStore(), in_flight=4, dead_letters=10)
        await bench.sink.submit(record(offset, b"no" if offset % 2 else b"{}") for offset in range(100))
        with pytest.raises(DeadLetterLimitError, match=r"topic t is broken: 11 of 22 .* offset 21: not JSON"):
            await asyncio.wait_for(bench.sink.failed(), 5)
        await bench.settled()
        dead = sorted(key for key in bench.store.objects if key.startswith("dead/"))
        assert dead == [event_key("dead", record(offset)) for offset in range(1, 21, 2)]
        assert bench.reported[-1] == (P0, 20), "the one that was too many is read again"
        assert bench.outcome("dead_letter") == 10
        assert bench.value("lakefeed_errors_total", kind="input") == 1

    asyncio.run(scenario())


def test_conflicts_are_dead_lettered_beyond_the_limit() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        for body in (b'{"v":1}', b'{"v":2}'):
            bench = Bench(store, dead_letters=10)
            await bench.sink.submit(record(offset, body) for offset in range(50))
            await bench.settled()
        assert bench.outcome("conflict") == 50
        assert bench.reported[-1] == (P0, 49)
        assert len([key for key in store.objects if key.startswith("dead/")]) == 50

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StoreRefusedError("there is no such bucket"), "refused"),
        (StoreUnavailableError("answered 503", "slow_down"), "unavailable"),
    ],
    ids=["refused", "unavailable"],
)
def test_an_outage_is_one_error_however_often_puts_are_retried(error: Fault, kind: str) -> None:
    away = True

    async def scenario() -> None:
        nonlocal away
        bench = Bench(MemoryStore(lambda _: error if away else None), in_flight=8)
        for outage in (1, 2):
            away = True
            await bench.sink.submit(record(offset) for offset in range(outage * 8, outage * 8 + 8))
            tried = (bench.value("lakefeed_consumer_put_retries_total", cause=error.cause) or 0) + 100
            await bench.until(
                lambda: (bench.value("lakefeed_consumer_put_retries_total", cause=error.cause) or 0) > tried  # noqa: B023
            )
            assert bench.value("lakefeed_errors_total", kind=kind) == outage
            away = False
            await bench.settled()
            assert bench.health.readiness().ok

    asyncio.run(scenario())


def test_a_refusing_store_stops_all_puts_until_it_is_fixed() -> None:
    refusing = True

    def fault(_: str) -> Fault | None:
        return StoreRefusedError("there is no such bucket") if refusing else None

    async def scenario() -> None:
        nonlocal refusing
        bench = Bench(MemoryStore(fault), in_flight=4)
        feeding = asyncio.create_task(bench.sink.submit(record(offset) for offset in range(20)))
        await bench.until(lambda: bench.health.readiness().reasons == {"bucket": "there is no such bucket"})
        assert not feeding.done()
        refusing = False
        await feeding
        await bench.settled()
        assert bench.health.readiness().ok
        assert bench.reported[-1] == (P0, 19)

    asyncio.run(scenario())


def test_a_late_refusal_after_the_store_recovered_is_not_a_new_outage() -> None:
    class Crossing(MemoryStore):
        """Refuses the first put of each of two keys, and answers one of them when the other is stored."""

        def __init__(self) -> None:
            super().__init__()
            self.late = asyncio.Event()
            self.asked: set[str] = set()

        async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
            if key not in self.asked:
                self.asked.add(key)
                if len(self.asked) == 2:
                    await self.late.wait()
                raise StoreRefusedError("there is no such bucket")
            await super().create(key, body, metadata)

    async def scenario() -> None:
        store = Crossing()
        bench = Bench(store, in_flight=4)
        await bench.sink.submit([record(0), record(1)])
        await bench.until(lambda: len(store.objects) == 1)
        await bench.until(lambda: bench.health.readiness().ok)
        store.late.set()
        await bench.settled()
        assert bench.reported[-1] == (P0, 1)
        assert bench.value("lakefeed_errors_total", kind="refused") == 1

    asyncio.run(scenario())


def test_one_refused_record_is_reported_and_bounds_what_waits_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lakefeed_consumer.sink.sink._MAX_UNREPORTED", 50)
    refusing = True

    def fault(key: str) -> Fault | None:
        return (
            StoreRefusedError("no right to put dead letters") if refusing and key.startswith("dead") else None
        )

    async def feed(sink: Sink) -> None:
        for first in range(0, 200, 10):
            await sink.submit(
                record(offset, b"" if offset == 5 else b"{}") for offset in range(first, first + 10)
            )

    async def scenario() -> None:
        nonlocal refusing
        bench = Bench(MemoryStore(fault), in_flight=4)
        unready = {"bucket": "no right to put dead letters"}
        feeding = asyncio.create_task(feed(bench.sink))
        await bench.until(lambda: bench.value("lakefeed_consumer_in_flight_events") == 1)
        assert bench.outcome("stored") == 59
        assert not feeding.done()
        assert bench.reported[-1] == (P0, 4)
        assert bench.health.readiness().reasons == unready
        assert bench.value("lakefeed_errors_total", kind="refused") == 1
        refusing = False
        await feeding
        await bench.settled()
        assert bench.health.readiness().ok
        assert bench.reported[-1] == (P0, 199)

    asyncio.run(scenario())


def test_a_put_whose_response_was_lost_counts_as_already_there() -> None:
    class Forgetful(MemoryStore):
        async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
            known = key in self.objects
            await super().create(key, body, metadata)
            if not known:
                raise StoreUnavailableError("connection reset", "connection")

    async def scenario() -> None:
        bench = Bench(Forgetful())
        await bench.sink.submit([record(0)])
        await bench.settled()
        assert bench.outcome("already_there") == 1
        assert bench.reported == [(P0, 0)]

    asyncio.run(scenario())


def test_revoked_partitions_report_nothing_more_and_others_continue() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        store.hold = asyncio.Event()
        bench = Bench(store)
        await bench.sink.submit([record(5), record(5, partition=P1)])
        bench.sink.revoke([P0])
        store.hold.set()
        await bench.settled()
        assert bench.reported == [(P1, 5)]
        assert len(store.objects) == 2
        # It is assigned again, behind what another member has committed.
        await bench.sink.submit([record(8), record(6, partition=P1)])
        await bench.settled()
        assert sorted(bench.reported[1:]) == [(P0, 8), (P1, 6)]

    asyncio.run(scenario())


def test_a_partition_is_read_again_while_puts_of_its_last_assignment_are_in_flight() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        store.hold = asyncio.Event()
        bench = Bench(store)
        await bench.sink.submit([record(5), record(5, partition=P1)])
        bench.sink.revoke([P0])
        # It is assigned again, from the committed offset.
        await bench.sink.submit([record(4), record(5)])
        store.hold.set()
        await bench.settled()
        assert [offset for partition, offset in bench.reported if partition == P1] == [5]
        assert [offset for partition, offset in bench.reported if partition == P0][-1] == 5
        assert len(store.objects) == 3

    asyncio.run(scenario())


def test_queued_records_dropped_by_a_stop_are_never_passed_over() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        store.hold = asyncio.Event()
        bench = Bench(store, in_flight=2)
        feeding = asyncio.create_task(bench.sink.submit(record(offset) for offset in range(6)))
        await bench.until(lambda: store.most_at_once == 2)
        assert not feeding.done()
        draining = asyncio.create_task(bench.sink.drain(5))
        await feeding
        store.hold.set()
        assert await draining == 0
        assert sorted(store.objects) == [event_key("events", record(offset)) for offset in (0, 1)]
        await bench.sink.submit([record(6)])
        await bench.settled()
        assert bench.reported[-1] == (P0, 1)
        # It is read again from what was committed.
        await bench.sink.submit(record(offset) for offset in range(2, 7))
        await bench.until(lambda: len(store.objects) == 7)
        await bench.settled()
        assert bench.reported[-1] == (P0, 6)

    asyncio.run(scenario())


def test_an_unexpected_failure_is_raised_and_never_acknowledged() -> None:
    class Broken(MemoryStore):
        async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
            raise RuntimeError("a bug")

    async def scenario() -> None:
        bench = Bench(Broken())
        await bench.sink.submit([record(0)])
        with pytest.raises(RuntimeError, match="a bug"):
            await asyncio.wait_for(bench.sink.failed(), 5)
        assert bench.reported == []
        await bench.sink.close()

    asyncio.run(scenario())


def test_a_record_without_a_timestamp_has_no_age() -> None:
    async def scenario() -> None:
        bench = Bench(MemoryStore())
        await bench.sink.submit([Record(P0, 0, -1, None, b"{}"), record(1)])
        await bench.settled()
        assert bench.outcome("stored") == 2
        assert bench.value("lakefeed_consumer_event_age_seconds_count") == 1

    asyncio.run(scenario())
