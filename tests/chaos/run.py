"""One run: starts everything, lets things go wrong by the plan, waits until all is stored, reads it back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import obstore
from confluent_kafka import KafkaException
from rich.console import Console

from lakefeed_local.broker import Broker
from tests.chaos.adoptions import Increase, adopted
from tests.chaos.batches import unpacked
from tests.chaos.compaction import Compacted, Compaction
from tests.chaos.faults import inflict
from tests.chaos.kafka import Topic, rebalances
from tests.chaos.rows import broken_values, write_files
from tests.chaos.schedule import COMMIT_FAULTS, Plan, Size, Step
from tests.chaos.table import check_table
from tests.chaos.verify import Verdict, check_rereads, compare_offsets, verify
from tests.chaos.workers import Group, Program, quiet_environment
from tests.helpers.cluster import NUMBERS, Cluster
from tests.helpers.folders import own_folder
from tests.helpers.s3_proxy import Faults, S3Proxy
from tests.helpers.seaweed import SeaweedS3, access
from tests.helpers.services import free_port

TOPIC, BUCKET, GROUP = "chaos", "chaos", "chaos-consumer"
_PARTITIONS = 4
_READS = 64
_REPORT_SECONDS = 10.0
_COMMITS_SECONDS = 1.0
_ADOPTIONS_SECONDS = 0.5
LAYOUTS = ("objects", "batches")
CONSUMERS = {
    "lakefeed": [str(Path(sys.executable).with_name("lakefeed-consumer")), "run"],
    "naive": [sys.executable, "-P", str(Path(__file__).with_name("naive.py"))],
}


@dataclass(frozen=True)
class Variant:
    """What runs.

    Attributes:
        consumer: which of `CONSUMERS` reads the topic.
        layout: one of `LAYOUTS`.
        compact: whether the objects are compacted into an Iceberg table meanwhile.
        cluster: the mode of a cluster of three brokers; None is one broker.
    """

    consumer: str = "lakefeed"
    layout: str = "objects"
    compact: bool = False
    cluster: str | None = None


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        verdict: what was found when all was read back.
        done: steps that were taken, by name.
        requests: S3 requests by the fault that met them.
        rebalances: new generations of the consumer group.
        ends: how the workers' and the producer's processes ended, and how often.
        slow_stops: workers that did not end in order when all was calm again.
        reread: objects that were put again after they had been stored.
        adopted: batches of another worker, or of an earlier run of the same one, that a worker has adopted.
        compacted: what the compaction came to, if there was one.
        seconds: the run's length, by its parts.
    """

    verdict: Verdict
    done: Counter[str]
    requests: Counter[str]
    rebalances: int
    ends: dict[str, dict[str, int]]
    slow_stops: int
    reread: int
    adopted: int
    compacted: Compacted | None
    seconds: dict[str, float] = field(default_factory=dict)


class Run:
    """Everything that runs, from `with` to the end of it.

    Args:
        seed, size, plan: what goes wrong.
        variant: what runs.
        folder: for data and logs; emptied first.
    """

    def __init__(self, seed: int, size: Size, plan: Plan, variant: Variant, folder: Path) -> None:
        self._seed, self._size, self._plan, self._variant = seed, size, plan, variant
        self._folder = folder.absolute()
        self._mode = variant.cluster
        self._adopted = Increase()
        self._ports: list[int] = []
        self._commits: list[tuple[float, dict[int, int]]] = []
        self._done: Counter[str] = Counter()
        self._held = ExitStack()
        self._clock = time.monotonic()
        self._step: dict[str, Callable[[Step], Awaitable[str]]] = {
            "kill": lambda step: self._group.kill(step.share, step.seconds),
            "stop": lambda step: self._group.freeze(step.share, step.seconds),
            "leave": lambda step: self._group.leave(step.share, step.seconds),
            "join": lambda step: self._group.join(step.seconds),
            "producer_kill": self._kill_producer,
            "broken": self._send_broken,
        }

    def __enter__(self) -> Run:
        self._held.enter_context(own_folder(self._folder))
        try:
            self._start()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _start(self) -> None:
        enter = self._held.enter_context
        files, self._events = write_files(self._folder, self._seed, self._size.events, self._size.files)
        self._broken = broken_values(self._seed, self._size.broken_records)
        self._unsent = list(self._broken)
        self._journal = enter((self._folder / "steps.log").open("w", buffering=1))
        self._store = enter(SeaweedS3(self._folder / "s3"))
        self._store.client().create_bucket(Bucket=BUCKET)
        ports = (free_port(), free_port())
        self._proxy = enter(S3Proxy(self._store.port, ports, self._folder / "proxy.log", self._seed))
        if self._mode is None:
            folder = self._folder / "broker"
            broker = enter(Broker(folder, kafka_port=free_port(), zookeeper_port=free_port()))
            self._servers, self._broker_logs = broker.bootstrap_servers, [folder / "logs" / "kafka.log"]
            self._step |= self._steps_of_one(broker)
        else:
            cluster = enter(Cluster(self._folder / "cluster", self._mode))
            self._servers, self._broker_logs = cluster.bootstrap_servers, cluster.logs
            self._step |= self._steps_of_cluster(cluster)
        self._topic = Topic(self._servers, TOPIC, GROUP, _PARTITIONS)
        self._topic.create()
        environment = quiet_environment() | self._settings()
        self._group = Group(lambda number: self._worker(number, environment), self._size.workers)
        self._held.callback(self._group.end)
        self._compaction: Compaction | None = None
        if self._variant.compact:
            late = self._size.late_seconds
            self._compaction = enter(Compaction(self._store, self._folder, environment, self._seed, late))
            self._step |= self._compaction.steps() | dict.fromkeys(COMMIT_FAULTS, self._commit_fault)
        command = str(Path(sys.executable).with_name("lakefeed-producer"))
        self._producer = Program(
            [command, "publish", *map(str, files), "--rate", str(self._size.rate)],
            environment,
            self._folder / "producer.log",
            cwd=self._folder,
        )
        self._held.callback(self._producer.end)

    def _settings(self) -> dict[str, str]:
        return {
            **access(self._proxy.endpoint_url),
            "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": self._servers,
            "LAKEFEED_TOPIC": TOPIC,
            "LAKEFEED_TOPIC_PARTITIONS": str(_PARTITIONS),
            "LAKEFEED_TOPIC_REPLICAS": "1" if self._mode is None else str(len(NUMBERS)),
            "LAKEFEED_BUCKET": BUCKET,
            "LAKEFEED_CONSUMER_GROUP": GROUP,
            "LAKEFEED_HTTP_PORT": "0",
            "LAKEFEED_LAYOUT": self._variant.layout,
            # Many batches are cut, by each of these limits.
            "LAKEFEED_BATCH_MAX_EVENTS": "25",
            "LAKEFEED_BATCH_LINGER_SECONDS": "1",
            # A killed worker is missed soon, and a request that is late is late.
            "LAKEFEED_SESSION_TIMEOUT_SECONDS": "6",
            "LAKEFEED_COMMIT_INTERVAL_SECONDS": "0.5",
            "LAKEFEED_PUT_TIMEOUT_SECONDS": str(self._size.late_seconds / 2),
            "LAKEFEED_RETRY_CAP_SECONDS": "2",
            "LAKEFEED_DRAIN_SECONDS": "5",
        }

    def _worker(self, number: int, environment: dict[str, str]) -> Program:
        log = self._folder / f"worker-{number}.log"
        port = free_port()
        self._ports.append(port)
        environment = environment | {"LAKEFEED_HTTP_PORT": str(port)}
        return Program(CONSUMERS[self._variant.consumer], environment, log, cwd=self._folder)

    async def go(self) -> Outcome:
        """Do it all; returns what came of it."""
        began = self._clock = time.monotonic()
        watching = (self._tend(), self._tell(), self._watch_commits(), self._watch_adoptions())
        background = [asyncio.create_task(each) for each in watching]
        try:
            async with asyncio.TaskGroup() as lanes:
                for steps in self._plan.values():
                    lanes.create_task(self._walk(steps))
            await self._until_rebalanced()
            chaos_over = time.monotonic()
            self._note("all steps are taken; waiting until everything is stored")
            await self._until_all_is_stored()
            stored = time.monotonic()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        slow_stops = await self._group.stop()
        self._group.tend()
        compacted = await self._compaction.finish() if self._compaction is not None else None
        verdict = await self._read_back(compacted)
        repeated = self._proxy.repeated()
        if self._mode is not None:
            check_rereads(repeated, self._commits, verdict)
        return Outcome(
            verdict,
            self._done,
            self._proxy.counts(),
            self._rebalances(),
            {"workers": named(self._group.ends()), "producer": named(self._producer.ends)},
            slow_stops,
            len(repeated),
            round(self._adopted.total),
            compacted,
            {
                "chaos": round(chaos_over - began, 1),
                "rest": round(stored - chaos_over, 1),
                "reading_back": round(time.monotonic() - stored, 1),
            },
        )

    async def _tend(self) -> None:
        """Keep what is wanted running; the producer until it has published all."""
        while True:
            self._group.tend()
            self._producer.tend()
            if self._compaction is not None:
                self._compaction.tend()
            if self._producer.ends[0]:
                self._producer.wanted = False
            await asyncio.sleep(0.1)

    async def _watch_commits(self) -> None:
        """Take down what is committed, to know later which events must not be read again."""
        while self._mode is not None:
            with contextlib.suppress(KafkaException):
                committed = await asyncio.to_thread(self._topic.committed)
                self._commits.append((time.monotonic(), committed))
            await asyncio.sleep(_COMMITS_SECONDS)

    async def _watch_adoptions(self) -> None:
        """Ask the workers how many batches they have adopted."""
        while self._variant.layout == "batches":
            for port in tuple(self._ports):
                count = await asyncio.to_thread(adopted, port)
                if count is not None:
                    self._adopted.see(port, count)
            await asyncio.sleep(_ADOPTIONS_SECONDS)

    async def _walk(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            await asyncio.sleep(max(0.0, self._clock + step.at - time.monotonic()))
            said = await self._step.get(step.what, self._store_fault)(step)
            self._done[step.what] += 1
            self._note(f"{step.what} {said} ({step.seconds:.1f} s)")

    async def _store_fault(self, step: Step) -> str:
        self._note(f"{step.what} begins")
        faults = Faults({step.what: step.share}, self._size.late_seconds)
        await inflict(self._proxy, faults, step.seconds)
        return f"for {step.share:.0%} of the requests"

    async def _commit_fault(self, step: Step) -> str:
        """A commit fails: there is one after the last event, too, as the record of a dead letter moves on."""
        assert self._compaction is not None
        said, _ = await asyncio.gather(self._compaction.commit_fault(step), self._send_broken(step))
        return said

    async def _kill_producer(self, step: Step) -> str:
        while not self._producer.alive:
            if self._producer.ends[0]:
                raise RuntimeError("the producer was done before it could be killed")
            await asyncio.sleep(0.1)
        self._producer.kill(step.seconds)
        return ""

    def _steps_of_one(self, broker: Broker) -> dict[str, Callable[[Step], Awaitable[str]]]:
        return {
            "broker_kill": lambda step: self._outage(broker.kill_kafka, broker.start_kafka, step),
            "broker_restart": lambda step: self._outage(broker.stop_kafka, broker.start_kafka, step),
            "zookeeper_restart": lambda step: self._outage(
                broker.stop_zookeeper, broker.start_zookeeper, step
            ),
        }

    def _steps_of_cluster(self, cluster: Cluster) -> dict[str, Callable[[Step], Awaitable[str]]]:
        async def outage_of_one(find: Callable[[], int], stop: Callable[[int], None], step: Step) -> str:
            number = await asyncio.to_thread(find)

            def start() -> None:
                cluster.start(number)
                # The next one goes when the cluster can bear it: two of three have to be there.
                cluster.wait_whole()

            return f"of broker {number}{await self._outage(lambda: stop(number), start, step)}"

        def kill(find: Callable[[Step], int]) -> Callable[[Step], Awaitable[str]]:
            return lambda step: outage_of_one(lambda: find(step), cluster.kill, step)

        return {
            "leader_kill": kill(lambda step: cluster.leader(TOPIC, int(step.share * _PARTITIONS))),
            "coordinator_kill": kill(lambda _: cluster.coordinator(GROUP)),
            "controller_kill": kill(lambda _: cluster.controller()),
            "broker_restart": lambda step: outage_of_one(
                lambda: NUMBERS[int(step.share * len(NUMBERS))], cluster.stop, step
            ),
            "zookeeper_restart": lambda step: self._outage(
                cluster.stop_zookeeper, cluster.start_zookeeper, step
            ),
        }

    async def _outage(self, stop: Callable[[], None], start: Callable[[], None], step: Step) -> str:
        self._note(f"{step.what} begins")
        await asyncio.to_thread(stop)
        await asyncio.sleep(step.seconds)
        await asyncio.to_thread(start)
        return ""

    async def _send_broken(self, _: Step) -> str:
        row = self._unsent.pop()
        await asyncio.to_thread(self._topic.send, row, self._broken[row])
        return str(row[1])

    async def _until_rebalanced(self) -> None:
        """Let workers leave and come back until there were enough rebalances.

        On a busy machine one rebalance serves several workers that were killed or joined.
        """
        end = time.monotonic() + self._size.seconds
        while (before := self._rebalances()) < self._size.rebalances and time.monotonic() < end:
            said = await self._group.leave(0.0, 1.0)
            self._note(f"one more rebalance: {said} leaves and comes back")
            while self._rebalances() < before + 2 and time.monotonic() < end:
                await asyncio.sleep(0.5)

    def _rebalances(self) -> int:
        return rebalances(self._broker_logs, GROUP)

    async def _until_all_is_stored(self) -> None:
        """Wait until the producer is done and the group has committed everything; a limit ends it."""
        end = time.monotonic() + 60 + self._size.seconds
        while time.monotonic() < end:
            done = self._producer.ends[0] and await asyncio.to_thread(self._topic.flush)
            progress = await asyncio.to_thread(self._topic.progress)
            if done and progress is not None and progress[0] == progress[1]:
                return
            await asyncio.sleep(0.5)
        self._note("not everything was committed in time")

    async def _read_back(self, compacted: Compacted | None) -> Verdict:
        verdict = Verdict()
        records = await asyncio.to_thread(self._topic.read)
        bucket = await read_bucket(self._store, BUCKET)
        if self._variant.layout == "batches":
            bucket = unpacked(TOPIC, bucket, records, verdict)
        verify(
            TOPIC, events=self._events, broken=self._broken, records=records, bucket=bucket, verdict=verdict
        )
        if compacted is not None:
            check_table(compacted.rows, records, self._events, verdict)
        compare_offsets(self._topic.committed(), self._topic.ends(), verdict)
        return verdict

    async def _tell(self) -> None:
        """Say how far it is: a line that changes on a terminal, a line every ten seconds in a log."""
        console = Console(stderr=True)
        with console.status("") if console.is_terminal else contextlib.nullcontext() as status:
            while True:
                line = await asyncio.to_thread(self._progress)
                if status is None:
                    print(f"          {line}", file=sys.stderr, flush=True)
                    await asyncio.sleep(_REPORT_SECONDS)
                else:
                    status.update(line)
                    await asyncio.sleep(1)

    def _progress(self) -> str:
        seconds, size = time.monotonic() - self._clock, self._size
        counts = self._topic.progress()
        return (
            f"{seconds:4.0f} of {size.seconds:.0f} s, {self._done['kill']} of {size.kills} kills, "
            f"{self._done.total()} of {sum(map(len, self._plan.values()))} steps, "
            + (
                "the broker is unreachable"
                if counts is None
                else f"{counts[0]:,} of {counts[1]:,} records committed"
            )
        )

    def _note(self, what: str) -> None:
        self._journal.write(f"{time.monotonic() - self._clock:7.1f} s  {what}\n")


async def read_bucket(store: SeaweedS3, bucket: str) -> dict[str, bytes]:
    """All objects of a bucket but the files of Iceberg tables."""
    objects = store.objects(bucket)
    found: dict[str, bytes] = {}
    slots = asyncio.Semaphore(_READS)

    async def read(key: str) -> None:
        async with slots:
            found[key] = bytes(await (await obstore.get_async(objects, key)).bytes_async())

    async for page in obstore.list(objects):
        await asyncio.gather(
            *(read(entry["path"]) for entry in page if not entry["path"].startswith("tables/"))
        )
    return found


def named(ends: Counter[int]) -> dict[str, int]:
    """How processes ended: exit codes, and the names of signals."""
    return {signal.Signals(-code).name if code < 0 else str(code): n for code, n in sorted(ends.items())}
