"""A partition's chain under kills, zombies, gaps, lost answers and rotation at random, by seed.

Workers read one log and write to one bucket, as two consumers do between which a rebalance went wrong. A
worker that was fenced continues for a while: its commits are refused, its puts are not. Requests reach the
bucket in any order, also after their sender was killed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import pytest

from lakefeed_common.lake.lines import from_line
from lakefeed_common.lake.metadata import BatchMetadata, hash_of
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.sink.batches.batch import Batch
from lakefeed_consumer.sink.batches.chain import Chain, Limits

P0 = Partition("t", 0)
DAY_MS = 86_400_000
SEEDS = 1000


def make_log(rng: random.Random) -> list[Record]:
    """Records with gaps between their offsets; days mix at their borders; some are not valid events."""
    log, offset, day = [], rng.choice([0, 0, 7]), 20_000
    for _ in range(rng.randint(1, 60)):
        offset += 1 if rng.random() < 0.7 else rng.randint(1, 20)
        day += rng.random() < 0.05
        timestamp = (day - (rng.random() < 0.1)) * DAY_MS + rng.randrange(DAY_MS)
        value = rng.choice(
            [b"{}", b'{"n":%d}' % offset, b'{"n":%d}\n' % offset, b"no", None, b'{"_KAFKA":1}']
        )
        if rng.random() < 0.6:
            value = b'{"a":{"b":[1,2]},"n":%d}' % offset
        key = rng.choice([None, b"", b"k%d" % offset])
        headers = rng.choice([(), (("source", b"a.csv"), ("none", None))])
        log.append(Record(P0, offset, timestamp, key, value, headers))
    return log


@dataclass
class Request:
    """A put on its way: with `answered` the bucket has decided, and the answer is on its way back."""

    worker: Worker
    batch: Batch
    answered: bool = False
    existing: dict[str, str] | None = None


@dataclass
class Bucket:
    """Batches and dead letters by key; a key is created once."""

    batches: dict[str, tuple[dict[str, str], list[bytes]]] = field(default_factory=dict)
    dead_letters: dict[int, Record] = field(default_factory=dict)
    events: Counter[Record] = field(default_factory=Counter)

    def put(self, key: str, batch: Batch) -> dict[str, str] | None:
        if key in self.batches:
            return self.batches[key][0]
        hashed = hash_of(batch.first)
        metadata = BatchMetadata(batch.end, len(batch.lines), batch.first.timestamp_ms, hashed, "")
        self.batches[key] = metadata.to_dict(), list(batch.lines)
        self.events.update(from_line("t", line) for line in batch.lines)
        return None

    def end_of_holder(self, batch: Batch) -> int | None:
        """Where the batch ends that has the first event of this one; see `BatchWriter.holder`."""
        ends = [
            int(about["lakefeed-end"]) for about, lines in self.batches.values() if batch.lines[0] in lines
        ]
        return ends[0] if ends else None


def chain_key(batch: Batch) -> str:
    return batch.key("batches", "dead")


def naive_key(batch: Batch) -> str:
    """What a sink without the chain does: the key names the end, as well."""
    return f"{chain_key(batch)}-{batch.end}"


class Worker:
    """A consumer from an assignment to its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chain = Chain(
            P0, world.committed, Limits(world.rng.choice([1, 200, 10_000]), world.rng.randint(1, 30))
        )
        self.read = next(
            (n for n, record in enumerate(world.log) if record.offset >= world.committed), len(world.log)
        )
        self.putting = False

    @property
    def fenced(self) -> bool:
        return self.world.owner is not self

    def take(self, count: int) -> None:
        records = self.world.log[self.read : self.read + count]
        if records:
            self.chain.take(records)
            self.read += len(records)

    def put(self) -> None:
        """Send the next put; its dead letters are stored before."""
        batch = None if self.putting else self.chain.next()
        if batch is None:
            return
        if not self.chain.anchored and batch.lines:
            end = self.world.bucket.end_of_holder(batch)
            self.chain.anchor(end)
            if end is not None:
                self.world.anchored += 1
                self.commit()
            return
        self.putting = True
        for each in batch.dead_letters:
            self.world.bucket.dead_letters[each.record.offset] = each.record
        self.world.requests.append(Request(self, batch))

    def answer(self, request: Request) -> None:
        self.putting = False
        self.chain.answer(request.batch, request.existing)
        self.commit()

    def commit(self) -> None:
        if not self.fenced:
            self.world.commit(self.chain.position)


class World:
    """A log, a bucket, the group's committed offset, and workers, of which one is the owner."""

    def __init__(self, seed: int, key: Callable[[Batch], str] = chain_key) -> None:
        self.rng = random.Random(seed)
        self.log = make_log(self.rng)
        self.key = key
        self.bucket = Bucket()
        self.committed = 0
        self.requests: list[Request] = []
        self.workers: list[Worker] = []
        self.adopted = self.anchored = 0
        self.owner = self.join()

    def join(self) -> Worker:
        self.owner = Worker(self)
        self.workers.append(self.owner)
        return self.owner

    def commit(self, position: int) -> None:
        assert position >= self.committed
        self.committed = position
        bucket = self.bucket
        before = {each for each in self.log if each.offset < position}
        missing = before - bucket.events.keys() - set(bucket.dead_letters.values())
        assert not missing, f"committed {position} without {missing}"

    def deliver(self, request: Request, *, lost: bool) -> None:
        """Move a request one step: to the bucket, or its answer to the worker."""
        if request.answered:
            self.requests.remove(request)
            if request.worker in self.workers:
                request.worker.answer(request)
            return
        existing = self.bucket.put(self.key(request.batch), request.batch)
        # Without an answer the client sends it again.
        if not lost:
            request.answered, request.existing = True, existing
            self.adopted += existing is not None

    def step(self) -> None:
        rng, worker = self.rng, self.rng.choice(self.workers)
        what = rng.random()
        if what < 0.35:
            worker.take(rng.randint(1, 12))
        elif what < 0.5:
            worker.chain.seal()
            worker.put()
        elif what < 0.6:
            worker.put()
        elif what < 0.9 and self.requests:
            self.deliver(rng.choice(self.requests), lost=rng.random() < 0.2)
        elif what < 0.95:
            # A rebalance that the old owner does not notice, or a kill.
            old = self.owner
            self.join()
            if rng.random() < 0.5:
                self.workers.remove(old)
        elif what < 0.97:
            # Someone sets the group's offset by hand, which needs a group without members.
            self.committed = rng.randint(0, self.committed)
            old = self.owner
            self.join()
            if rng.random() < 0.5:
                self.workers.remove(old)
        elif worker.fenced:
            self.workers.remove(worker)

    def run(self) -> None:
        for _ in range(self.rng.randint(10, 150)):
            self.step()
        # One more worker reads to the end, while those that were fenced do what they still can.
        self.join()
        while self.committed <= self.log[-1].offset:
            self.owner.take(self.rng.randint(1, 30))
            self.owner.chain.seal()
            for worker in self.rng.sample(self.workers, len(self.workers)):
                worker.put()
            for request in self.rng.sample(self.requests, len(self.requests)):
                self.deliver(request, lost=self.rng.random() < 0.2)
        for worker in self.workers:
            worker.chain.seal()
        while any(worker.chain.records for worker in self.workers):
            for worker in self.workers:
                worker.put()
            for request in list(self.requests):
                self.deliver(request, lost=False)
        while self.requests:
            self.deliver(self.requests[0], lost=False)


def check(world: World) -> None:
    stored = world.bucket.events
    assert set(stored.values()) <= {1}, f"stored twice: {[each for each, n in stored.items() if n > 1]}"
    assert set(stored) | set(world.bucket.dead_letters.values()) == set(world.log)
    assert not set(stored) & set(world.bucket.dead_letters.values())
    assert world.committed == world.log[-1].offset + 1
    # Each batch with events starts where another ends, and has one day.
    ends = {
        int(key.rsplit("-", 1)[1].removesuffix(".json.gz")): int(about["lakefeed-end"])
        for key, (about, _) in world.bucket.batches.items()
    }
    position = 0
    while position in ends:
        position = ends.pop(position)
    assert position == world.committed
    # An offset that was set by hand can leave batches of dead letters alone within others.
    with_events = {int(key.rsplit("-", 1)[1].removesuffix(".json.gz")) for key in events_in(world.bucket)}
    assert not with_events & set(ends)
    for key, (_, lines) in world.bucket.batches.items():
        assert {from_line("t", line).timestamp_ms // DAY_MS for line in lines} <= {day_number(key)}, key


def events_in(bucket: Bucket) -> list[str]:
    """Keys of the batches that have events."""
    return [key for key, (_, lines) in bucket.batches.items() if lines]


def day_number(key: str) -> int:
    return date.fromisoformat(key.partition("dt=")[2][:10]).toordinal() - date(1970, 1, 1).toordinal()


@pytest.mark.parametrize("tens", range(10))
def test_nothing_is_lost_doubled_or_altered(tens: int) -> None:
    adopted = anchored = 0
    for seed in range(tens * SEEDS // 10, (tens + 1) * SEEDS // 10):
        world = World(seed)
        world.run()
        try:
            check(world)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
        adopted += world.adopted
        anchored += world.anchored
    assert adopted > 50
    assert anchored > 5


def test_keys_that_name_the_end_double_events() -> None:
    doubled = 0
    for seed in range(100):
        world = World(seed, naive_key)
        world.run()
        doubled += any(count > 1 for count in world.bucket.events.values())
    assert doubled > 20
