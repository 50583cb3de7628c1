"""Kafka and ZooKeeper as child processes, with the same property files as in containers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from lakefeed_common.addresses import join
from lakefeed_common.errors import SettingsError
from lakefeed_local import jars, java
from lakefeed_local.jars import Jars
from lakefeed_local.process import Child, StartError, check_free, free_port, reachable, sole_user
from lakefeed_local.settings import LocalSettings

KAFKA = "kafka.Kafka"
ZOOKEEPER = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_PORT_TAKEN = "Address already in use"
_STILL_REGISTERED = "NodeExistsException"


class Broker:
    """One Kafka broker with its ZooKeeper, from `with` to the end of it.

    Data and logs stay in the folder, so that a broker that is started there later has its topics.

    Args:
        folder: state and logs; only one broker at a time can use it.
        kafka_port: 0 means a free one.
        zookeeper_port: 0 means a free one.
        metrics_port: port of Kafka's metrics for Prometheus; None for no metrics, 0 for a free port.
        overrides: broker settings that take precedence over `server.properties`.
        settings: everything else, such as heaps and time limits; from the environment by default.
        lock: pins the jars to run.

    Raises:
        SettingsError: a given port or the folder is in use.
        StartError: one of the two did not start; the message has the end of its log.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kafka_port: int = 0,
        zookeeper_port: int = 0,
        metrics_port: int | None = None,
        overrides: dict[str, str] | None = None,
        settings: LocalSettings | None = None,
        lock: Path = jars.LOCK,
    ) -> None:
        self.folder = folder.absolute()
        self.kafka_port = kafka_port
        self.zookeeper_port = zookeeper_port
        self.metrics_port = metrics_port
        self._given_ports = (kafka_port, zookeeper_port)
        self._overrides = overrides or {}
        self._settings = settings or LocalSettings()
        self._config = self._settings.broker_folder
        self._lock = lock
        self._host = self._settings.local_host
        self._held = ExitStack()
        self._kafka: Child | None = None
        self._zookeeper: Child | None = None

    @cached_property
    def jars(self) -> Jars:
        """The verified jars of Kafka and ZooKeeper."""
        return jars.ensure(self._settings.cache, self._lock)

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients on this machine."""
        return join(reachable(self._host), self.kafka_port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start both and return when Kafka is ready."""
        if not (self._config / "server.properties").is_file():
            raise SettingsError(
                f"LAKEFEED_BROKER_CONFIG: {self._config} has no server.properties. "
                "Set the folder of the broker's property files: `broker` in a checkout."
            )
        self._held.enter_context(sole_user(self.folder))
        try:
            self.start_zookeeper()
            self.start_kafka()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut both down cleanly; their data is kept."""
        for child in (self._kafka, self._zookeeper):
            if child is not None:
                child.stop()
        self._kafka = self._zookeeper = None
        self._held.close()

    def start_zookeeper(self) -> None:
        """Start ZooKeeper and return when it is ready."""
        self._zookeeper = self._start(self._launch_zookeeper, self._zookeeper_serves, (_PORT_TAKEN,))

    def start_kafka(self) -> None:
        """Start Kafka and return when it is ready.

        After `kill_kafka` this takes some seconds, until the killed broker's session expires in ZooKeeper.
        """
        self.stop_kafka()  # cleans up after one that ended
        self._kafka = self._start(self._launch_kafka, self._kafka_serves, (_PORT_TAKEN, _STILL_REGISTERED))

    def stop_kafka(self) -> None:
        """Shut Kafka down cleanly; ZooKeeper keeps running."""
        if self._kafka is not None:
            self._kafka.stop()

    def kill_kafka(self) -> None:
        """Kill Kafka, as a crash would."""
        if self._kafka is not None:
            self._kafka.kill()

    def restart_kafka(self) -> None:
        """Shut Kafka down cleanly and start it again on the same port, with its data."""
        self.stop_kafka()
        self.start_kafka()

    def stop_zookeeper(self) -> None:
        """Stop ZooKeeper; Kafka keeps running."""
        if self._zookeeper is not None:
            self._zookeeper.stop()

    def restart_zookeeper(self) -> None:
        """Stop ZooKeeper and start it again on the same port, with its data."""
        self.stop_zookeeper()
        self.start_zookeeper()

    def revive(self) -> None:
        """Start whichever of the two has ended, on the same port, with its data."""
        if self._zookeeper is None or not self._zookeeper.running:
            self.start_zookeeper()
        if self._kafka is None or not self._kafka.running:
            self.start_kafka()

    @property
    def running(self) -> bool:
        """Whether both processes are running."""
        return all(child is not None and child.running for child in (self._kafka, self._zookeeper))

    def _start(
        self, launch: Callable[[], Child], serves: Callable[[], bool], passing: tuple[str, ...]
    ) -> Child:
        """Start a program; retry on a transient cause, such as a port that was just taken."""
        end = time.monotonic() + self._settings.local_start_seconds
        while True:
            child = launch()
            try:
                child.wait_until(serves, max(1.0, end - time.monotonic()))
            except StartError:
                if time.monotonic() > end or not any(cause in child.log() for cause in passing):
                    raise
            except BaseException:
                child.stop()
                raise
            else:
                return child

    def _port(self, now: int, given: int, variable: str) -> int:
        """The port to start on: the given one, else the previous one, else a free one."""
        if given:
            check_free(self._host, given, variable)
            return given
        if now:
            try:
                check_free(self._host, now, variable)
            except SettingsError:  # taken meanwhile, and the caller gave no port
                return free_port(self._host)
            return now
        return free_port(self._host)

    def _launch_zookeeper(self) -> Child:
        self.zookeeper_port = self._port(
            self.zookeeper_port, self._given_ports[1], "LAKEFEED_LOCAL_ZOOKEEPER_PORT"
        )
        # ZooKeeper has no overrides on its command line: it gets a copy of the shared file with more lines.
        shared = (self._config / "zookeeper.properties").read_text()
        data = self.folder / "zookeeper"
        mine = self.folder / "zookeeper.properties"
        mine.write_text(
            f"{shared}\n# Of this run.\ndataDir={data}\nclientPort={self.zookeeper_port}\n"
            f"clientPortAddress={self._host}\n"
        )
        command = java.server(
            self.jars,
            self._config,
            self._settings.local_zookeeper_heap,
            ZOOKEEPER,
            str(mine),
            flags=(*java.TUNING[self._settings.local_jvm], *self._class_flags(ZOOKEEPER)),
        )
        return Child("ZooKeeper", command, self.folder / "logs" / "zookeeper.log", grace_seconds=self._grace)

    def _launch_kafka(self) -> Child:
        self.kafka_port = self._port(self.kafka_port, self._given_ports[0], "LAKEFEED_LOCAL_KAFKA_PORT")
        overrides = {
            "zookeeper.connect": join(reachable(self._host), self.zookeeper_port),
            "listeners": f"OUTSIDE://{join(self._host, self.kafka_port)}",
            "advertised.listeners": f"OUTSIDE://{self.bootstrap_servers}",
            "inter.broker.listener.name": "OUTSIDE",
            "log.dirs": str(self.folder / "kafka"),
            **self._overrides,
        }
        command = java.server(
            self.jars,
            self._config,
            self._settings.local_kafka_heap,
            KAFKA,
            str(self._config / "server.properties"),
            *(part for key, value in overrides.items() for part in ("--override", f"{key}={value}")),
            flags=(*java.TUNING[self._settings.local_jvm], *self._class_flags(KAFKA), *self._agent()),
        )
        return Child("Kafka", command, self.folder / "logs" / "kafka.log", grace_seconds=self._grace)

    def _class_flags(self, main_class: str) -> tuple[str, ...]:
        """Flags of the JVM for where the classes come from: an archive, if there is one."""
        archive = java.class_archive(self._settings.cache, self.jars, main_class)
        return (f"-XX:SharedArchiveFile={archive}",) if archive.is_file() else ()

    def _agent(self) -> tuple[str, ...]:
        if self.metrics_port is None:
            return ()
        self.metrics_port = self.metrics_port or free_port()
        rules = self._config / "jmx-exporter.yml"
        return (f"-javaagent:{self.jars.jmx_agent}=127.0.0.1:{self.metrics_port}:{rules}",)

    @property
    def _grace(self) -> float:
        return self._settings.local_stop_seconds

    def _zookeeper_serves(self) -> bool:
        try:
            address = (reachable(self._host), self.zookeeper_port)
            with socket.create_connection(address, timeout=2) as connection:
                connection.sendall(b"ruok")
                return connection.recv(4) == b"imok"
        except OSError:
            return False

    def _kafka_serves(self) -> bool:
        try:
            socket.create_connection((reachable(self._host), self.kafka_port), timeout=2).close()
        except OSError:
            return False
        # The port opens before the broker is registered, and clients need its advertised address.
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        try:
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False
