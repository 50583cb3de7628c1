"""Whatever order puts end in, and partitions go and come back: no commit passes an unstored event."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed_common.health import Health
from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters.limit import DeadLetterLimit
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.object_store import NO_METADATA, ObjectExistsError, StoreUnavailableError
from lakefeed_consumer.sink.placing import DeadLetterWriter, Placer
from lakefeed_consumer.sink.record_writer import RecordWriter
from lakefeed_consumer.sink.sink import Sink
from lakefeed_consumer.sink.store_retry import StoreRetry
from tests.helpers.memory_store import MemoryStore

PARTITIONS = [Partition("t", number) for number in range(2)]
SLOTS = 3

numbers = st.integers(0, 10)
steps = st.one_of(
    st.tuples(st.just("read"), st.sampled_from(PARTITIONS), numbers),
    st.tuples(st.just("finish"), st.just(None), numbers),
    st.tuples(st.just("fail"), st.just(None), numbers),
    st.tuples(st.just("lose response"), st.just(None), numbers),
    st.tuples(st.just("revoke"), st.sampled_from(PARTITIONS), numbers),
    st.tuples(st.just("assign"), st.sampled_from(PARTITIONS), numbers),
    st.tuples(st.just("rebalance"), st.sampled_from(PARTITIONS), numbers),
    st.tuples(st.just("read again"), st.sampled_from(PARTITIONS), numbers),
    st.tuples(st.just("drop the queue"), st.just(None), numbers),
)
# Offsets have gaps, as after compaction or transactions.
logs = st.lists(st.integers(1, 4), min_size=1, max_size=40).map(
    lambda gaps: [sum(gaps[: end + 1]) for end in range(len(gaps))]
)


class SlowStore(MemoryStore):
    """Puts wait until the test lets one of them continue, fail, or succeed without an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[str, asyncio.Future[str]]] = []

    async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
        release: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiting.append((key, release))
        what = await release
        if what == "fail":
            raise StoreUnavailableError("busy", "slow_down")
        if key in self.objects:
            raise ObjectExistsError(key)
        self.objects[key] = body
        if what == "lose response":
            raise StoreUnavailableError("no answer", "connection")


class Group:
    """A broker's log, what the group has committed, and a feeder that reads batch after batch."""

    def __init__(self, log: list[int], batch: int) -> None:
        self.log = log
        self.batch = batch
        self.store = SlowStore()
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.position = dict.fromkeys(PARTITIONS, 0)
        self.mine = set(PARTITIONS)
        self.queue: deque[Record] = deque()
        self.more = asyncio.Event()
        self.violations: list[str] = []
        metrics = ConsumerMetrics()
        health = Health(metrics, ["bucket"], stall_seconds=30)
        retry = StoreRetry(Backoff(0.0, 0.0), metrics, health)
        limit = DeadLetterLimit(1_000, 1.0, 60.0)
        placer = Placer(self.store, retry, metrics)
        writer = RecordWriter(placer, "events", DeadLetterWriter(placer, "dead"), limit, metrics)
        self.sink = Sink(writer, SLOTS, self.stored, metrics)

    def record(self, partition: Partition, offset: int) -> Record:
        return Record(partition, offset, 0, None, b'{"at": %d}' % offset)

    def stored(self, partition: Partition, offset: int) -> None:
        # The sink calls this in a task of its own, where a failed assertion would not be noticed.
        if partition not in self.mine:
            self.violations.append(f"{partition} was reported after it was revoked")
        self.violations += [
            f"{partition} {offset} was reported without {before}"
            for before in self.log
            if before <= offset
            and event_key("events", self.record(partition, before)) not in self.store.objects
        ]
        self.committed[partition] = max(self.committed[partition], offset + 1)

    async def feed(self) -> None:
        while True:
            await self.more.wait()
            while self.queue:
                count = min(self.batch, len(self.queue))
                await self.sink.submit([self.queue.popleft() for _ in range(count)])
            self.more.clear()

    def read(self, partition: Partition, count: int) -> None:
        if partition not in self.mine:
            return
        ahead = [offset for offset in self.log if offset >= self.position[partition]][:count]
        self.queue.extend(self.record(partition, offset) for offset in ahead)
        if ahead:
            self.position[partition] = ahead[-1] + 1
        self.more.set()

    async def step(self, what: str, partition: Any, number: int) -> None:
        if what == "drop the queue":
            # As a stop does; a commit may still follow.
            await self.sink.drain(0)
        elif what == "read":
            self.read(partition, number)
        elif what == "revoke":
            # A rebalance clears what was fetched and not taken; then another member has the partition.
            self.queue = deque(record for record in self.queue if record.partition != partition)
            self.sink.revoke([partition])
            self.mine.discard(partition)
        elif what == "assign" and partition not in self.mine:
            self.mine.add(partition)
            self.position[partition] = self.committed[partition]
        elif what == "rebalance":
            await self.step("revoke", partition, number)
            await self.step("assign", partition, number)
            self.read(partition, number)
        elif what == "read again":
            self.position[partition] = self.committed[partition]
        elif what in ("finish", "fail", "lose response") and self.store.waiting:
            _, proceed = self.store.waiting.pop(number % len(self.store.waiting))
            proceed.set_result(what)


async def few_turns() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


async def scenario(log: list[int], batch: int, plan: list[tuple[str, Any, int]]) -> None:
    group = Group(log, batch)
    feeding = asyncio.create_task(group.feed())
    for what, partition, number in plan:
        await group.step(what, partition, number)
        await few_turns()
        assert len(group.store.waiting) <= SLOTS
        assert not group.violations
        assert not feeding.done(), feeding.exception()
    # The last member stores what is left.
    for partition in PARTITIONS:
        await group.step("assign", partition, 0)
        await group.step("read again", partition, 0)
        group.read(partition, len(log))
    async with asyncio.timeout(10):
        while group.committed != dict.fromkeys(PARTITIONS, log[-1] + 1):
            await group.step("finish", None, 0)
            await few_turns()
    assert not group.violations
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    await group.sink.close()
    assert len(group.store.objects) == len(log) * len(PARTITIONS)


@settings(max_examples=250, deadline=None)
@given(logs, st.integers(1, 20), st.lists(steps, max_size=60))
def test_no_commit_passes_an_unstored_event(
    log: list[int], batch: int, plan: list[tuple[str, Any, int]]
) -> None:
    asyncio.run(scenario(log, batch, plan))
