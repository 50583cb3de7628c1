"""`lakefeed-producer publish` against a real broker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient

from lakefeed_common.errors import LakefeedError
from lakefeed_local.broker import Broker
from lakefeed_producer.csv.byte_columns import ByteColumn, ConcatColumn
from lakefeed_producer.errors import ChangedError
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.kafka.connection import Connection, connect
from lakefeed_producer.kafka.topic import ensure_topic
from lakefeed_producer.publish.deliveries import Deliveries
from lakefeed_producer.publish.destination import Publisher
from lakefeed_producer.settings import ProducerSettings
from tests.helpers.memory_topic import MemoryConnection, MemoryTopic
from tests.helpers.publishing import Record, Topic, environment, make_topic, publish, read, start
from tests.helpers.services import free_port
from tests.helpers.waiting import wait_for

PRICES = Path(__file__).parents[2] / "data" / "prices.csv"
# ---- one contract for the fake and the real one ----------------------------------------------------


@pytest.fixture(params=["memory", "kafka"])
def connection(request: pytest.FixtureRequest, topic: str) -> MemoryConnection | Connection:
    if request.param == "memory":
        return MemoryTopic().connection()
    kafka = request.getfixturevalue("kafka")
    return connect(ProducerSettings(kafka_bootstrap_servers=kafka, topic=topic))


def accepted(publisher: Publisher, request: pytest.FixtureRequest, topic: str) -> list[Record]:
    if isinstance(publisher, MemoryTopic):
        return publisher.records
    return read(request.getfixturevalue("kafka"), topic)


def test_records_arrive_in_order_and_each_is_acknowledged_and_read_back(
    connection: MemoryConnection | Connection, request: pytest.FixtureRequest, topic: str
) -> None:
    publisher, journal = connection.publisher, connection.journal
    source, sha256 = "café.csv".encode(), "0123456789abcdef" * 4
    tracker = journal.resume(source, sha256, time.time_ns(), 6_000, lambda: None)
    publication = tracker.in_topic.publication
    deliveries = Deliveries()
    for first in range(1, 6_001, 1_000):
        rows = np.arange(first, first + 1_000)
        keys = ByteColumn.of([b"" if row % 2 else b"%d" % row for row in rows])
        values = ConcatColumn.of([b"{%d}" % row for row in rows])
        partitions = publication.assign_partitions(rows, keys)
        batch = EventBatch(publication, rows, partitions, values, keys, first + 999)
        deliveries.add(batch)
        publisher.send(batch, lambda: True)

    def settled() -> bool:
        publisher.wait(0.05)
        deliveries.settle()
        return deliveries.empty

    wait_for(settled, 30, lambda: f"{deliveries.in_flight} events are not acknowledged")
    assert (deliveries.delivered, deliveries.position, deliveries.failed) == (6_000, 6_000, [])
    tracker.check(6_000, 6_000, lambda: None)
    assert accepted(publisher, request, topic) == [
        (
            None if row % 2 else b"%d" % row,
            b"{%d}" % row,
            [("source", source), ("publication", publication.mark), ("row", b"%d" % row)],
        )
        for row in range(1, 6_001)
    ]
    again = journal.resume(source, sha256, 0, 6_000, lambda: None)
    assert again.in_topic.publication == publication
    assert again.in_topic.rows.sum() == 6_000
    with pytest.raises(ChangedError, match="its content differs from what"):
        journal.resume(source, "f" * 64, 0, 6_000, lambda: None)
    with pytest.raises(LakefeedError, match="the topic was deleted or emptied"):
        tracker.check(6_001, 6_001, lambda: None)


# ---- the command -----------------------------------------------------------------------------------


def test_a_topic_that_another_program_created_meanwhile_is_used_as_it_is(kafka: str, topic: str) -> None:
    make_topic(kafka, topic, partitions=3)
    settings = ProducerSettings(kafka_bootstrap_servers=kafka, topic=topic)
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    (note,) = ensure_topic(None, admin, settings, lambda _: None)
    assert note.startswith(f"the topic {topic} has 3 partitions and 1 replica each, unlike")


@pytest.mark.smoke
def test_the_sample_file_arrives_whole(kafka: str, topic: str, tmp_path: Path) -> None:
    arguments = ("publish", str(PRICES), "--key", "Ticker", "--summary", "s.json")
    with start(tmp_path, *arguments, kafka=kafka, topic=topic) as process:
        _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert f"created the topic {topic} with 1 partition and 1 replica each" in err
    assert "prices.csv: 2,212 rows read, 2,212 events delivered, 0 rows rejected" in err
    assert json.loads((tmp_path / "s.json").read_text())["events_delivered"] == 2212
    records = read(kafka, topic)
    lines = PRICES.read_text().splitlines()[1:]
    assert len(records) == len(lines)
    for number, ((key, value, headers), line) in enumerate(zip(records, lines, strict=True), 1):
        fields = line.split(",")
        assert key == fields[0].encode()
        assert [headers[0], headers[2]] == [("source", b"prices.csv"), ("row", b"%d" % number)]
        assert headers[1][0] == "publication"
        event = json.loads(value)
        assert list(event) == ["ticker", "date", "open", "high", "low", "close", "volume", "adj_close"]
        expected: list[Any] = [*fields[:2], *map(float, fields[2:6]), int(fields[6]), float(fields[7])]
        assert list(event.values()) == expected


def test_the_topic_is_created_as_configured_and_differences_are_reported(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n2\n3\n")
    done = publish(tmp_path, "x.csv", kafka=kafka, topic=topic, LAKEFEED_TOPIC_PARTITIONS="3")
    assert done.returncode == 0, done.stderr
    assert "with 3 partitions and 1 replica each" in done.stderr
    again = publish(tmp_path, "x.csv", "--republish", kafka=kafka, topic=topic)
    assert again.returncode == 0
    assert f"the topic {topic} has 3 partitions and 1 replica each" in again.stderr
    assert "LAKEFEED_TOPIC_PARTITIONS=1" in again.stderr
    assert sorted(json.loads(value)["a"] for _, value, _ in read(kafka, topic, 3)) == [1, 1, 2, 2, 3, 3]


def test_a_topic_that_cannot_be_created_ends_with_1(kafka: str, topic: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    done = publish(tmp_path, "x.csv", kafka=kafka, topic=topic, LAKEFEED_TOPIC_REPLICAS="3")
    assert done.returncode == 1
    assert f"error: the topic {topic} cannot be created" in done.stderr
    assert "LAKEFEED_TOPIC_REPLICAS=3 is more than there are brokers" in done.stderr


def test_a_record_larger_than_the_topic_accepts_is_rejected(kafka: str, topic: str, tmp_path: Path) -> None:
    make_topic(kafka, topic, 1, **{"max.message.bytes": "4000"})
    sizes = [10, 3_700, 3_800, 3_900, 4_000, 5_000, 20]
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{size},{'x' * size}\n" for size in sizes))
    done = publish(tmp_path, "x.csv", kafka=kafka, topic=topic, LAKEFEED_COMPRESSION="none")
    assert done.returncode == 3, done.stderr
    arrived = [json.loads(value)["a"] for _, value, _ in read(kafka, topic)]
    rejects = [json.loads(line) for line in (tmp_path / "x.csv.rejects.jsonl").read_text().splitlines()]
    assert {reject["reason"] for reject in rejects} == {"event_too_large"}
    rejected = [int(reject["raw"].split(",")[0]) for reject in rejects]
    assert sorted(arrived + rejected) == sorted(sizes)
    assert {4_000, 5_000} <= set(rejected)
    assert {10, 3_700, 20} <= set(arrived)


def test_a_secure_connection_to_a_plain_port_is_reported(kafka: str, topic: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    done = publish(
        tmp_path,
        "x.csv",
        kafka=kafka,
        topic=topic,
        LAKEFEED_KAFKA_SECURITY_PROTOCOL="SSL",
        LAKEFEED_KAFKA_TIMEOUT_SECONDS="5",
    )
    assert done.returncode == 1
    assert "LAKEFEED_KAFKA_SSL_CA_FILE" in done.stderr or "LAKEFEED_KAFKA_SECURITY_PROTOCOL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_password_and_an_unreachable_advertised_address_are_reported(
    topic: str, tmp_path: Path
) -> None:
    """Two listeners of one broker, in addition to the one that it uses itself."""
    (tmp_path / "x.csv").write_text("a\n1\n")
    inside, secure, wrong, dead = (free_port() for _ in range(4))
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    overrides = {
        "listeners": ",".join(
            f"{name}://127.0.0.1:{port}"
            for name, port in (("INSIDE", inside), ("SECURE", secure), ("WRONG", wrong))
        ),
        "advertised.listeners": (
            f"INSIDE://127.0.0.1:{inside},SECURE://127.0.0.1:{secure},WRONG://localhost:{dead}"
        ),
        "inter.broker.listener.name": "INSIDE",
        "listener.security.protocol.map": "INSIDE:PLAINTEXT,SECURE:SASL_PLAINTEXT,WRONG:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": f'{login} required user_alice="secret";',
    }
    variables = {
        "LAKEFEED_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "LAKEFEED_KAFKA_SASL_MECHANISM": "PLAIN",
        "LAKEFEED_KAFKA_SASL_USERNAME": "alice",
        # A refusal does not wait for the timeout.
        "LAKEFEED_KAFKA_TIMEOUT_SECONDS": "600",
    }
    where = f"127.0.0.1:{secure}"
    with Broker(tmp_path / "broker", kafka_port=inside, overrides=overrides):
        for password, code in (("wrong", 1), ("secret", 0)):
            variables["LAKEFEED_KAFKA_SASL_PASSWORD"] = password
            done = publish(tmp_path, "x.csv", kafka=where, topic=topic, **variables)
            assert done.returncode == code, done.stderr
            refused = f"the broker at {where} does not accept the user 'alice'" in done.stderr
            assert refused is (code == 1)
            assert password not in done.stderr
        done = publish(tmp_path, "x.csv", kafka=f"127.0.0.1:{wrong}", topic=topic)
    assert done.returncode == 1
    assert f"the broker at 127.0.0.1:{wrong} responds" in done.stderr
    assert f"advertises localhost:{dead} (Connection refused)" in done.stderr
    assert "`advertised.listeners`" in done.stderr


def test_an_interrupted_run_waits_for_events_in_flight_and_reports_its_position(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """By SIGINT; see test_producer_broker.py for SIGTERM."""
    (tmp_path / "x.csv").write_text("a,b\n" + "1,2\n" * 100_000)
    there = Topic(kafka, topic)
    process = start(
        tmp_path, "publish", "x.csv", "--rate", "1000", "--summary", "s.json", kafka=kafka, topic=topic
    )
    with process:
        wait_for(lambda: there.size() > 200, 60, "nothing arrives")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["interrupted"] is True
    position = summary["files"][0]["position"]
    assert f"interrupted: every row up to {position:,} of 100,000 is done" in err
    assert there.size() == position == summary["events_delivered"]
    assert "Traceback" not in err
    there.close()


def test_a_rate_is_held_against_a_broker(kafka: str, topic: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n" + "1,2\n" * 6_000)
    done = publish(tmp_path, "x.csv", "--rate", "3000", "--summary", "s.json", kafka=kafka, topic=topic)
    assert done.returncode == 0, done.stderr
    # A busy machine may be slower, but never faster.
    assert 1.9 < json.loads((tmp_path / "s.json").read_text())["seconds"] < 20


def test_memory_grows_neither_with_the_file_nor_with_the_topic(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    # `ru_maxrss` would include the parent process.
    code = (
        "import re, sys; from lakefeed_producer.cli import main; code = main(); "
        "print(re.search(r'VmHWM:\\s*(.*) kB', open('/proc/self/status').read())[1]); sys.exit(code)"
    )

    def peak(name: str, rows: int, topic: str) -> int:
        path = tmp_path / name
        path.write_text("a,b,c\n" + "1234,some text,5.25\n" * rows)
        # Older than the topic, so that all of it is read.
        os.utime(path, (0, 0))
        done = subprocess.run(
            [sys.executable, "-c", code, "publish", name],
            env=environment(kafka, topic),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    small = peak("small.csv", 150_000, f"{topic}-small")
    assert peak("large.csv", 1_000_000, f"{topic}-large") < 1.2 * small
    # Prefetching is bounded in compressed bytes; all records would take several times as much.
    assert peak("again.csv", 150_000, f"{topic}-large") < 2 * small


def test_a_metrics_port_in_use_is_no_error(kafka: str, topic: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    with socket.create_server(("127.0.0.1", 0)) as port_in_use:
        port = str(port_in_use.getsockname()[1])
        done = publish(tmp_path, "x.csv", "--metrics", kafka=kafka, topic=topic, LAKEFEED_HTTP_PORT=port)
    assert done.returncode == 0
    assert f"warning: metrics are not served: LAKEFEED_HTTP_PORT={port}" in done.stderr
