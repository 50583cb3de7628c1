"""A cluster of three brokers, with ZooKeeper on Kafka 3.9 or in KRaft mode on Kafka 4, to kill them by role.

Each broker is a `Broker` with overrides. In KRaft mode each is a controller as well, as in a small cluster.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from lakefeed_local import jars, java
from lakefeed_local.broker import Broker
from lakefeed_local.process import StartError
from tests.helpers.services import free_port
from tests.helpers.waiting import wait_for

MODES = ("zookeeper", "kraft")
NUMBERS = (1, 2, 3)
# How long until the controller gives up a broker that was killed.
SESSION_SECONDS = 6
_SECONDS = 10.0
_REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
}


class _KraftBroker(Broker):
    """A broker and controller in KRaft mode, whose storage is formatted before its first start."""

    def __init__(self, folder: Path, *, port: int, overrides: dict[str, str], cluster_id: str) -> None:
        super().__init__(folder, kafka_port=port, overrides=overrides, lock=jars.KRAFT_LOCK)
        self._cluster_id = cluster_id

    def start_kafka(self) -> None:
        """Format the storage if it is new, start Kafka and return when it answers."""
        if not (self.folder / "kafka" / "meta.properties").exists():
            self._format()
        super().start_kafka()

    def _format(self) -> None:
        properties = self.folder / "format.properties"
        settings = self._overrides | {"log.dirs": str(self.folder / "kafka")}
        properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        words = ("format", "--cluster-id", self._cluster_id, "--config", str(properties))
        command = java.tool(self.jars, self._config, "kafka.tools.StorageTool", *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StartError(f"formatting {self.folder} failed: {done.stdout}{done.stderr}")


class Cluster:
    """Three brokers, from `with` to the end of it; replication 3, two replicas in sync to accept a record.

    Args:
        folder: state and logs.
        mode: one of `MODES`.

    Raises:
        StartError: a broker or ZooKeeper did not come up; with the end of its log.
    """

    def __init__(self, folder: Path, mode: str) -> None:
        self.mode = mode
        self._folder = folder.absolute()
        self._ports = {number: free_port() for number in NUMBERS}
        self._zookeeper: Broker | None = None
        self._brokers = self._with_zookeeper() if mode == "zookeeper" else self._with_kraft()
        self._admin = self._client()

    def _with_zookeeper(self) -> dict[int, Broker]:
        self._zookeeper = Broker(self._folder / "zookeeper", zookeeper_port=free_port())
        shared = {"zookeeper.connect": f"127.0.0.1:{self._zookeeper.zookeeper_port}"} | _REPLICATED
        return {
            number: Broker(
                self._folder / str(number),
                kafka_port=port,
                overrides=shared | {"broker.id": str(number)},
            )
            for number, port in self._ports.items()
        }

    def _with_kraft(self) -> dict[int, Broker]:
        controllers = {number: free_port() for number in NUMBERS}
        shared = {
            "process.roles": "broker,controller",
            "inter.broker.listener.name": "OUTSIDE",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{port}" for n, port in controllers.items()),
            "broker.session.timeout.ms": str(SESSION_SECONDS * 1000),
        } | _REPLICATED
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        return {
            number: _KraftBroker(
                self._folder / str(number),
                port=port,
                overrides=shared
                | {
                    "node.id": str(number),
                    "broker.id": str(number),
                    "listeners": f"OUTSIDE://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controllers[number]}",
                },
                cluster_id=cluster_id,
            )
            for number, port in self._ports.items()
        }

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all three, for clients."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports.values())

    @property
    def logs(self) -> list[Path]:
        """The log of each broker."""
        return [broker.folder / "logs" / "kafka.log" for broker in self._brokers.values()]

    def __enter__(self) -> Self:
        try:
            for broker in (*self._brokers.values(), *filter(None, (self._zookeeper,))):
                broker.folder.mkdir(parents=True)
            self.start_zookeeper()
            # Each waits for the others: a quorum of controllers has two.
            with ThreadPoolExecutor() as pool:
                list(pool.map(self.start, NUMBERS))
            self.wait_whole()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        # Nothing is read after this: an orderly stop would only wait for the others to take over.
        for broker in self._brokers.values():
            broker.kill_kafka()
        self.stop_zookeeper()

    def start(self, number: int) -> None:
        """Start a broker and return when it answers; ZooKeeper first forgets a killed one."""
        self._brokers[number].start_kafka()

    def stop(self, number: int) -> None:
        """Stop a broker in order: it hands its partitions over."""
        self._brokers[number].stop_kafka()

    def kill(self, number: int) -> None:
        """End a broker at once, as a crash would."""
        self._brokers[number].kill_kafka()

    def stop_zookeeper(self) -> None:
        """Stop ZooKeeper, where there is one."""
        if self._zookeeper is not None:
            self._zookeeper.stop_zookeeper()

    def start_zookeeper(self) -> None:
        """Start ZooKeeper, where there is one, and return when it answers."""
        if self._zookeeper is not None:
            self._zookeeper.start_zookeeper()

    def leader(self, topic: str, partition: int = 0) -> int:
        """The broker that leads a partition."""
        return self._known(
            lambda: (
                self._admin.list_topics(topic, timeout=_SECONDS).topics[topic].partitions[partition].leader
            )
        )

    def coordinator(self, group: str) -> int:
        """The broker that coordinates a consumer group."""

        def ask() -> int:
            # A client keeps asking a broker that was the coordinator once. It must live until it answers.
            client = self._client()
            found = client.describe_consumer_groups([group], request_timeout=_SECONDS)[group]
            return int(found.result().coordinator.id)

        return self._known(ask)

    def controller(self) -> int:
        """The broker that is the active controller."""
        if self.mode == "zookeeper":
            return self._known(lambda: self._admin.list_topics(timeout=_SECONDS).controller_id)
        return self._known(self._quorum_leader)

    def _quorum_leader(self) -> int:
        # What clients get as the controller of a KRaft cluster is any broker.
        states = [
            json.loads((broker.folder / "kafka" / "__cluster_metadata-0" / "quorum-state").read_text())
            for broker in self._brokers.values()
        ]
        newest = max(states, key=lambda state: (state["leaderEpoch"], state["leaderId"]))
        return int(newest["leaderId"])

    def _known(self, ask: Callable[[], int]) -> int:
        """A broker's number, once the cluster knows it: in the middle of an election it does not."""

        problem: Exception | None = None

        def answer() -> int:
            nonlocal problem
            try:
                return ask()
            except (KafkaException, KeyError, OSError, json.JSONDecodeError) as error:
                problem = error
                return 0

        return wait_for(
            lambda: max(0, answer()),
            60,
            lambda: f"the cluster does not say which broker it is: {problem!r}",
            every=0.2,
        )

    def _client(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def wait_whole(self) -> None:
        """Wait until all brokers are there and every replica of every partition is in sync."""
        wait_for(self._whole, 120, lambda: f"not all replicas are in sync; logs: {self.logs}", every=0.2)

    def _whole(self) -> bool:
        try:
            known = self._admin.list_topics(timeout=_SECONDS)
        except KafkaException:
            return False
        partitions = [each for topic in known.topics.values() for each in topic.partitions.values()]
        return len(known.brokers) == len(NUMBERS) and all(
            each.leader in NUMBERS and len(each.isrs) == len(each.replicas) for each in partitions
        )
