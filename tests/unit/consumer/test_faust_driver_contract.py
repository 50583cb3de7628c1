"""What the driver relies on in Faust and aiokafka beyond their public interfaces: names and behaviour.

Run it first with a new version of either: what fails here has to be looked at in `faust_driver/`.
"""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import create_conn
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataResponse_v1
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from faust.transport.consumer import Consumer, ThreadDelegateConsumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from packaging.requirements import Requirement
from packaging.version import Version

from lakefeed_common.lake.records import Partition, Record
from lakefeed_common.settings import load
from lakefeed_consumer.faust_driver import checked_client, fetched_records
from lakefeed_consumer.faust_driver.consumer_thread import ConsumerThread
from lakefeed_consumer.faust_driver.fetched_records import FetchedRecords
from lakefeed_consumer.faust_driver.member import FaustMember
from lakefeed_consumer.settings import ConsumerSettings
from tests.helpers.fake_kafka_client import InMemory

ROOT = Path(__file__).resolve().parents[3]
PINNED = ("aiokafka", "faust-streaming")
ONE = TP("t", 0)
WRITTEN: list[tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
    (0, 1_700_000_000_000, b"skipped", b"{}", []),
    (1, 1_700_000_000_001, None, b"{}", [("a", b"1"), ("a", None)]),
    (2, 1_700_000_000_002, b"", None, []),
    (5, 1_700_000_000_003, b"key", b"", [("", b"")]),
]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scenario()

    asyncio.run(whole())


# ---- versions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["common", "producer", "consumer"])
def test_the_pins_allow_the_tested_minor_version_and_no_later_one(part: str) -> None:
    project = tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    requirements = map(Requirement, [*project["dependencies"], *(each for extra in extras for each in extra)])
    pinned = {
        each.name: each.specifier for each in requirements if each.name in ("aiokafka", "faust-streaming")
    }
    assert pinned
    for name, specifier in pinned.items():
        tested = Version(version(name))
        assert tested in specifier
        assert f"{tested.major}.{tested.minor + 1}.0" not in specifier
        assert f"{tested.major}.{tested.minor - 1}.999" not in specifier


# ---- aiokafka's fetcher -------------------------------------------------------------------------------


def unpacked(kind: type) -> list[Any]:
    """The records of a record batch as this class makes them, from the second one on."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000)
    for offset, timestamp, key, value, headers in WRITTEN:
        builder.append(offset, timestamp, key, value, headers)
    fetched = MemoryRecords(bytes(builder.build()))
    return list(kind(TopicPartition("t", 3), fetched, None, 1, None, None, True, "read_committed"))


def test_fetched_records_have_all_that_aiokafkas_own_have() -> None:
    # Another test may have installed ours.
    own = unpacked(FetchedRecords.__mro__[1])
    assert [
        (each.offset, each.timestamp, each.key, each.value, list(each.headers)) for each in own
    ] == WRITTEN[1:]
    expected = [
        Record(Partition("t", 3), each.offset, each.timestamp, each.key, each.value, each.headers)
        for each in own
    ]
    records = unpacked(FetchedRecords)
    assert records == expected
    assert {type(each) for each in records} == {Record}


def test_the_fetcher_makes_the_records_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "PartitionRecords", fetcher.PartitionRecords)
    fetched_records.install()
    assert fetcher.PartitionRecords is FetchedRecords
    assert "PartitionRecords" in fetcher.Fetcher._proc_fetch_request.__code__.co_names


# ---- Faust's consumer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (Consumer, "getmany", ["self", "timeout"]),
        (Consumer, "_wait_next_records", ["self", "timeout"]),
        (ThreadDelegateConsumer, "_getmany", ["self", "active_partitions", "timeout"]),
        (ThreadDelegateConsumer, "_new_consumer_thread", ["self"]),
        (Consumer, "perform_seek", ["self"]),
        (Consumer, "on_partitions_assigned", ["self", "assigned", "generation_id"]),
        (Consumer, "stop_flow", ["self"]),
        (Consumer, "wait_empty", ["self"]),
        (Consumer, "commit_and_end_transactions", ["self"]),
        (Consumer, "_set_active_tps", ["self", "tps"]),
        (driver.Consumer, "verify_event_path", ["self", "now", "tp"]),
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
        (driver.AIOKafkaConsumerThread, "_ensure_consumer", ["self"]),
        (AIOKafkaClient, "_metadata_update", ["self", "cluster_metadata", "topics"]),
        (fetcher.Fetcher, "request_offset_reset", ["self", "tps", "strategy"]),
        (GroupCoordinator, "check_errors", ["self"]),
        (GroupCoordinator, "ensure_coordinator_known", ["self"]),
        (GroupCoordinator, "fetch_committed_offsets", ["self", "partitions"]),
    ],
)
def test_a_method_that_is_called_or_overridden_has_its_parameters(
    owner: type, name: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def drain(memory: InMemory, until: Callable[[], bool]) -> Awaitable[list[tuple[TP, int]]]:
    """Run Faust's own loop from the fetch to the agent, and return what it passes on."""

    async def whole() -> list[tuple[TP, int]]:
        passed: list[tuple[TP, int]] = []
        stopped = asyncio.Event()

        async def callback(message: Any) -> None:
            passed.append((message.tp, message.offset))

        memory.consumer.callback = callback
        loop = asyncio.create_task(memory.consumer._drain_messages(SimpleNamespace(_stopped=stopped)))
        async with asyncio.timeout(20):
            while not until() or memory.thread.fetched:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        return passed

    return whole()


def test_fausts_loop_takes_what_getmany_yields_and_drops_nothing_below_an_earlier_offset() -> None:
    async def scenario() -> None:
        memory = InMemory({ONE: (0, 100)})
        for offset in (50, 3):
            memory.fetch(ONE, [offset])
        commits = memory.consumer._commits
        passed = await drain(memory, lambda: commits._delivered.get(ONE) == 3)
        assert passed == [(ONE, 50), (ONE, 3)], "`_read_offset` decides, which the driver replaces"

    run(scenario)


def test_a_fetch_waits_for_the_flow_to_resume() -> None:
    async def scenario() -> None:
        memory = InMemory({ONE: (0, 100)})
        memory.fetch(ONE, [1])
        memory.consumer.stop_flow()
        assert not memory.consumer.flow_active
        waiting = asyncio.create_task(memory.consumer._wait_next_records(0.01))
        await asyncio.sleep(0)
        assert memory.thread.fetched, "nothing is fetched meanwhile"
        memory.consumer.resume_flow()
        fetched, active = await asyncio.wait_for(waiting, 20)
        assert (set(fetched), active) == ({ONE}, {ONE})

    run(scenario)


def test_a_commit_that_faust_asks_for_is_made_by_force_commit() -> None:
    async def scenario() -> None:
        memory = InMemory({ONE: (0, 100)})
        memory.consumer.store(ONE, 9)
        assert await memory.consumer.commit()
        assert memory.client.commits == [{ONE: 10}]

    run(scenario)


# ---- Faust's agent --------------------------------------------------------------------------------------


def test_an_agents_actor_has_the_task_that_runs_it() -> None:
    async def scenario() -> None:
        app: Any = faust.App("contract", web_enabled=False)
        started = asyncio.Event()

        async def body(stream: Any) -> None:
            started.set()

        agent = app.agent(app.topic("t"))(body)
        assert list(agent._actors) == []
        actor = await agent._start_one()
        assert list(agent._actors) == [actor]
        await asyncio.wait_for(actor.actor_task, 20)
        assert started.is_set()

    run(scenario)


# ---- aiokafka's consumer --------------------------------------------------------------------------------


def create_consumer() -> tuple[Any, ConsumerThread, FaustMember]:
    """aiokafka's consumer as Faust's thread creates it; it connects to nothing yet."""
    member = FaustMember(
        load(ConsumerSettings, {"topic": "t"}),
        handler=SimpleNamespace(drain=None, resume=None, out_of_range=None),
    )
    thread = member._app.consumer._thread
    return thread._create_worker_consumer(member._app.transport), thread, member


def test_the_consumer_that_faust_creates_reads_only_committed_transactions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connected(*_: object) -> None:
        return

    async def scenario() -> None:
        consumer, thread, member = create_consumer()
        assert isinstance(consumer, aiokafka.AIOKafkaConsumer)
        assert isinstance(thread.client, checked_client.CheckedClient)
        assert consumer._client.send == thread.client._send
        assert consumer._client._metadata_update == thread.client._update_metadata
        monkeypatch.setattr(consumer._client, "bootstrap", connected)
        monkeypatch.setattr(consumer, "_wait_topics", connected)
        await consumer.start()
        assert consumer._fetcher._isolation_level == 1, "READ_COMMITTED of the protocol"
        coordinator = consumer._coordinator
        assert isinstance(coordinator, GroupCoordinator)
        assert coordinator._client is consumer._client
        assert coordinator.coordinator_id is None
        consumer._client.coordinator_lookup = connected
        coordinator._coordination_task.cancel()
        await asyncio.gather(coordinator._coordination_task, return_exceptions=True)
        await consumer._fetcher.close()
        await consumer._client.close()
        consumer._closed = True
        member.close()

    run(scenario)


def test_the_position_of_an_assigned_partition_is_the_offset_to_fetch_next() -> None:
    async def scenario() -> None:
        subscription = SubscriptionState()
        subscription.assign_from_user([TopicPartition("t", 0)])
        assignment = subscription.subscription.assignment
        assert TopicPartition("t", 0) in assignment.tps
        assignment.state_value(TopicPartition("t", 0)).seek(7)
        assert assignment.state_value(TopicPartition("t", 0)).position == 7

    run(scenario)


def test_a_coordinators_error_is_raised_once_and_a_failed_coordinators_each_time() -> None:
    async def scenario() -> None:
        coordinator: Any = GroupCoordinator(
            AIOKafkaClient(), SubscriptionState(), group_id="g", enable_auto_commit=False
        )
        assert not coordinator._coordination_task.done()
        coordinator._pending_exception = KafkaError("refused")
        with pytest.raises(KafkaError, match="refused"):
            coordinator.check_errors()
        coordinator.check_errors()
        coordinator._coordination_task.cancel()
        await asyncio.gather(coordinator._coordination_task, return_exceptions=True)
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(KafkaError("given up"))
        coordinator._coordination_task = failed
        for _ in range(2):
            with pytest.raises(KafkaError, match="given up"):
                coordinator.check_errors()

    run(scenario)


# ---- aiokafka's clients ---------------------------------------------------------------------------------


def test_a_connection_takes_the_options_that_a_client_has() -> None:
    async def scenario() -> None:
        client = AIOKafkaClient(bootstrap_servers=["one:1", "two:2"])
        parameters = inspect.signature(create_conn).parameters
        for name in checked_client._CONNECTION_OPTIONS:
            assert hasattr(client, f"_{name}")
            assert name in parameters
        assert sorted(host[:2] for host in client.hosts) == [("one", 1), ("two", 2)]

    run(scenario)


def test_a_bootstrap_connection_is_asked_for_metadata_and_closed() -> None:
    class Connection:
        closed = False

        def connected(self) -> bool:
            return True

        async def send(self, _: object) -> Any:
            return MetadataResponse_v1([(1, "one", 9092, None)], 1, [])

        def close(self) -> None:
            self.closed = True

    async def scenario() -> None:
        client: Any = AIOKafkaClient()
        connection = Connection()
        client._conns["bootstrap", ConnectionGroup.DEFAULT] = connection
        assert await client._metadata_update(client.cluster, ())
        assert connection.closed
        assert not client._conns
        assert not await AIOKafkaClient()._metadata_update(ClusterMetadata(), ())

    run(scenario)


def test_an_admin_client_sends_a_request_to_any_broker() -> None:
    async def scenario() -> None:
        admin: Any = AIOKafkaAdminClient()

        async def send(node: object, request: object) -> tuple[object, object]:
            return node, request

        admin._client = SimpleNamespace(get_random_node=lambda: 7, send=send)
        assert await admin._send_request("request") == (7, "request")

    run(scenario)
