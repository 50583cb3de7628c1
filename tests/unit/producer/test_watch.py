"""The work loop of `watch`, with a publisher in memory and a fake clock."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from lakefeed_common.errors import LakefeedError, SettingsError, UnavailableError
from lakefeed_common.health import Health
from lakefeed_common.logs import JsonFormatter, TextFormatter
from lakefeed_producer.csv.file import CsvFile, Dialect
from lakefeed_producer.csv.locking import lock_file
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.publish.plan import FileOptions
from lakefeed_producer.publish.publish_file import PublishOptions
from lakefeed_producer.settings import ProducerSettings
from lakefeed_producer.watch.completeness import ends_with_line
from lakefeed_producer.watch.context import WatchContext
from lakefeed_producer.watch.folder import Folder
from lakefeed_producer.watch.ledger import Ledger
from lakefeed_producer.watch.watcher import Watcher
from tests.helpers.memory_topic import MemoryConnection, MemoryTopic
from tests.helpers.waiting import wait_for


class Broker:
    """A link to a broker that can be unreachable."""

    def __init__(self) -> None:
        self.topic = MemoryTopic()
        self.is_unreachable = False
        self._connection: MemoryConnection | None = None

    def open(self, while_waiting: Callable[[str], None]) -> MemoryConnection:
        while_waiting("")
        if self.is_unreachable:
            raise UnavailableError("no response from Kafka")
        self._connection = self._connection or self.topic.connection()
        return self._connection

    def drop(self) -> None:
        self._connection = None

    def is_usable(self) -> bool:
        return not self.is_unreachable


class Place:
    """A watched folder, and its watcher across restarts."""

    def __init__(self, base: Path) -> None:
        self.folder = base / "in"
        self.folder.mkdir()
        self.state = base / "state"
        self.broker = Broker()
        self.now = 1000.0
        self.options = FileOptions(Dialect(), {})
        self.clock: Callable[[], float] = time.monotonic
        self.stall_seconds = ProducerSettings().stall_seconds
        self.start()

    def start(self) -> None:
        self.ledger = Ledger(self.state)
        self.metrics = ProducerMetrics()
        self.health = Health(
            self.metrics, ["kafka"], stall_seconds=self.stall_seconds, clock=lambda: self.now
        )
        self.stop = threading.Event()
        context = WatchContext(
            PublishOptions(self.options),
            self.state / "rejects",
            self.ledger,
            self.metrics,
            self.health,
            self.stop,
            self.clock,
        )
        folder = Folder(self.folder, 2.0, lambda: self.now)
        self.watch = Watcher(folder, self.broker, context, poll_seconds=0.01)

    def restart(self) -> None:
        self.ledger.close()
        self.broker.drop()
        self.start()

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.write_text(content)
        return path

    def rounds(self) -> None:
        """Let time pass until all files have settled and are done."""
        self.watch.round()
        self.now += 2.5
        self.watch.round()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(value) for _, value, _ in self.broker.topic.records]

    def files(self, outcome: str) -> float:
        value = self.metrics.registry.get_sample_value("lakefeed_producer_files_total", {"outcome": outcome})
        assert value is not None
        return value


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    # So that a small file has several batches.
    monkeypatch.setattr("lakefeed_producer.publish.publish_file.BATCH_EVENTS", 1_000)
    # Nothing is in flight, so there is nothing to wait for.
    monkeypatch.setattr("lakefeed_producer.publish.delivery._GRACE_SECONDS", 0.1)
    place = Place(tmp_path)
    yield place
    place.ledger.close()


def test_a_file_is_published_once_it_is_complete(place: Place) -> None:
    path = place.write("a.csv", "n\n1\n")
    place.watch.round()
    place.now += 1.9
    place.watch.round()
    assert place.events == []
    path.write_text("n\n1\n2\n")
    place.now += 1
    place.watch.round()
    assert place.events == []
    place.now += 2
    place.watch.round()
    assert place.events == [{"n": 1}, {"n": 2}]
    assert place.files("done") == 1


def test_what_is_done_is_not_done_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = place.write("a.csv", "n\n1\n")
    place.rounds()
    place.rounds()
    place.restart()
    place.rounds()
    os.utime(path)
    place.rounds()
    assert place.events == [{"n": 1}]
    path.rename(place.folder / "b.csv")
    place.rounds()
    place.restart()
    place.rounds()
    assert place.events == [{"n": 1}]
    assert "b.csv is not published again: its content was published from a.csv" in caplog.text


def test_a_changed_file_is_not_published_again_and_logged_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    path = place.write("a.csv", "n\n1\n")
    place.rounds()
    path.write_text("n\n1\n2\n")
    place.rounds()
    place.rounds()
    place.restart()
    place.rounds()
    assert place.events == [{"n": 1}]
    logged = [record.message for record in caplog.records if "not published again" in record.message]
    assert logged == [
        "a.csv is not published again: it was changed after it had been published. "
        "Put the rows after row 1, the last one that is published, below the header, "
        "into a file with another name"
    ]
    path.rename(place.folder / "new.csv")
    place.rounds()
    assert place.events == [{"n": 1}, {"n": 1}, {"n": 2}]


def test_temporary_files_are_not_published(place: Place) -> None:
    for name in (".a.csv", "a.csv.tmp", "a.csv.part", "a.csv~", "~a.csv", "a.txt"):
        place.write(name, "n\n1\n")
    (place.folder / "folder.csv").mkdir()
    place.write("A.CSV", "n\n2\n")
    place.rounds()
    assert place.events == [{"n": 2}]


def test_what_is_skipped_is_logged_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (place.folder / "folder.csv").mkdir()
    (place.folder / "more").mkdir()
    os.mkfifo(place.folder / "pipe.csv")
    for name in ("a.tsv", "b.csv.gz", "c.txt", ".hidden", "d.csv.part"):
        place.write(name, "n\n1\n")
    place.rounds()
    place.rounds()
    assert place.events == []
    logged = [text.split(" is not published: ") for text in caplog.messages if "is not published" in text]
    assert sorted((name, reason.split(". ")[0]) for name, reason in logged) == [
        ("a.tsv", "its name does not end in .csv"),
        ("b.csv.gz", "it is compressed"),
        ("c.txt", "its name does not end in .csv"),
        ("folder.csv", "subfolders are not watched"),
        ("more", "subfolders are not watched"),
        ("pipe.csv", "it is not a regular file"),
    ]


def test_a_file_that_ends_in_the_middle_of_a_line_is_waited_for_longer(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = place.write("a.csv", "n,m\n1,5\n2,12")
    place.rounds()
    place.now += 20
    place.rounds()
    assert place.events == []
    assert caplog.text.count("a.csv is not complete: it ends in the middle of a line") == 1
    with path.open("a") as stream:
        stream.write("345\n")
    place.rounds()
    assert place.events == [{"n": 1, "m": 5}, {"n": 2, "m": 12345}]
    place.write("b.csv", "n\n3")
    place.rounds()
    place.now += 30
    place.rounds()
    assert place.events[2:] == [{"n": 3}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(("text", "whole"), [("n\n1\n", True), ("n\r1\r", True), ("n\n1", False)])
def test_a_line_end_is_known_in_each_encoding(tmp_path: Path, encoding: str, text: str, whole: bool) -> None:
    path = tmp_path / "x"
    path.write_bytes(text.encode(encoding))
    assert ends_with_line(path) == whole
    path.write_bytes(b"")
    assert not ends_with_line(path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports who has a file open")
def test_a_file_that_a_program_writes_is_waited_for(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with (place.folder / "a.csv").open("w") as stream:
        stream.write("n\n1\n")
        stream.flush()
        place.rounds()
        place.now += 1_000
        place.rounds()
        assert place.events == []
        assert caplog.text.count("a.csv is not complete: a program has it open for writing") == 1
        stream.write("2\n")
    place.rounds()
    assert place.events == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("old", "new", "advice"),
    [
        ("n\n1\n2\n", "n\n1\n2\n3\n", "the rows after row 2, the last one that is published"),
        ("n\n1\n2", "n\n1\n234\n", "That row was published before it was complete"),
        ("n\n1\n2\n", "n\n1\n3\n", "Put the rows that are not published yet, below the header"),
    ],
)
def test_the_advice_for_a_changed_file_repeats_no_row(
    place: Place, caplog: pytest.LogCaptureFixture, old: str, new: str, advice: str
) -> None:
    path = place.write("a.csv", old)
    place.rounds()
    place.now += 30
    place.rounds()
    assert len(place.events) == 2
    path.write_text(new)
    place.rounds()
    assert len(place.events) == 2
    assert advice in caplog.text
    assert ("before it was complete" in caplog.text) == ("before it was" in advice)


def test_a_header_of_one_column_hints_at_another_delimiter(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write("a.csv", "a;b\n3;8\n")
    place.rounds()
    place.rounds()
    assert caplog.text.count("a.csv: the header is a single column") == 1
    assert "LAKEFEED_DELIMITER=';'" in caplog.text


NAMES = [os.fsdecode(b"caf\xe9.csv"), "x" * 251 + ".csv", "é" * 125 + ".csv", "a\nb\x1b.csv"]


@pytest.mark.parametrize("name", NAMES, ids=["bytes", "long", "long in UTF-8", "controls"])
def test_a_file_may_have_any_name(place: Place, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level(logging.INFO)
    place.broker.topic.before_send = breaking(2, fail)
    path = place.write(name, ROWS)
    os.utime(path, (1, 1))
    place.write("b.csv", "n,m\n7,x\n")
    place.rounds()
    place.restart()
    place.rounds()
    place.restart()
    place.rounds()
    assert [event["n"] for event in place.events] == [*EVENTS, 7]
    assert dict(place.broker.topic.records[0][2])["source"] == os.fsencode(name)
    [rejects] = (place.state / "rejects").iterdir()
    assert len(rejects.read_bytes().splitlines()) == 50
    path.write_text("n,m\n1,y\n")
    place.rounds()
    assert place.files("changed") == 1
    for record in caplog.records:
        orjson.loads(JsonFormatter().format(record))
        assert TextFormatter().format(record).encode()
        assert record.exc_info or "\n" not in record.getMessage()


def test_an_unexpected_error_does_not_end_the_work(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hint = CsvFile.delimiter_hint

    def broken(file: CsvFile) -> str | None:
        if file.name == "a.csv":
            raise ValueError("of this file")
        return hint(file)

    monkeypatch.setattr(CsvFile, "delimiter_hint", broken)
    os.utime(place.write("a.csv", "n\n1\n"), (1, 1))
    place.write("b.csv", "n\n2\n")
    place.rounds()
    place.rounds()
    assert (place.events, place.files("failed")) == ([{"n": 2}], 1)
    assert caplog.text.count("a.csv cannot be published: ValueError('of this file')") == 1


def test_files_are_published_oldest_first(place: Place) -> None:
    for name, age in (("a.csv", 1), ("b.csv", 3), ("c.csv", 2), ("d.csv", 3)):
        os.utime(place.write(name, f"n\n{name}\n"), (1_000_000 - age, 1_000_000 - age))
    place.rounds()
    assert [event["n"] for event in place.events] == ["b.csv", "d.csv", "c.csv", "a.csv"]


def test_columns_that_are_renamed_are_logged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write("a.csv", "dt,n\n1743-11-01,1\n")
    place.rounds()
    assert place.events == [{"dt_2": "1743-11-01", "n": 1}]
    assert "a.csv: column 1 ('dt') is called 'dt_2' in the events" in caplog.text


def test_a_bad_file_does_not_block_the_others_and_is_tried_when_it_changes(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    bad = place.write("a.csv", 'n,"m\n1,1\n')
    place.write("b.csv", "n\n1\n")
    place.rounds()
    place.rounds()
    assert place.events == [{"n": 1}]
    assert place.files("failed") == 1
    assert caplog.text.count("a.csv cannot be published") == 1
    bad.write_text("n,m\n1,1\n")
    place.rounds()
    assert place.events[1:] == [{"n": 1, "m": 1}]


def test_a_bad_file_is_tried_again_after_a_restart_with_other_settings(place: Place) -> None:
    place.write("a.csv", "n\n1\n")
    place.options = FileOptions(Dialect(), {}, key="m")
    place.restart()
    place.rounds()
    place.rounds()
    assert (place.events, place.files("failed")) == ([], 1)
    place.options = FileOptions(Dialect(), {}, key="n")
    place.restart()
    place.rounds()
    assert (place.events, place.files("failed"), place.files("done")) == ([{"n": 1}], 0, 1)


def test_an_internal_error_is_not_mistaken_for_an_unreachable_broker(place: Place) -> None:
    def broken(batch: EventBatch) -> None:
        raise LakefeedError("this should not happen")

    place.broker.topic.before_send = broken
    place.write("a.csv", "n\n1\n")
    place.rounds()
    place.rounds()
    assert place.files("failed") == 1
    assert place.health.readiness().ok


def test_rejects_are_kept_in_the_state_folder(place: Place) -> None:
    place.write("a.csv", "n,m\n1,1\n2\n")
    place.rounds()
    assert place.files("done") == 1
    rejects = (place.state / "rejects" / "a.csv.rejects.jsonl").read_bytes()
    assert orjson.loads(rejects)["reason"] == "too_few_fields"


def test_an_unreachable_broker_is_waited_for(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.broker.is_unreachable = True
    place.write("a.csv", "n\n1\n")
    place.rounds()
    place.rounds()
    assert place.health.readiness().reasons == {"kafka": "no response from Kafka"}
    assert caplog.text.count("no response from Kafka") == 1
    place.broker.is_unreachable = False
    place.rounds()
    assert place.health.readiness().ok
    assert place.events == [{"n": 1}]


def breaking(batches: int, breaks: Callable[[], None]) -> Callable[[EventBatch], None]:
    """Call `breaks` before the batch with this number."""
    left = batches

    def before_send(batch: EventBatch) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            breaks()

    return before_send


ROWS = "n,m\n" + "".join(f"{row},x\n" if row % 100 else f"{row}\n" for row in range(1, 5001))
EVENTS = [row for row in range(1, 5001) if row % 100]


def fail() -> None:
    raise UnavailableError("gone")


def test_a_file_is_resumed_after_the_broker_was_unreachable(place: Place) -> None:
    place.broker.topic.before_send = breaking(3, fail)
    place.write("a.csv", ROWS)
    place.rounds()
    assert len(place.events) == 2_000
    assert not place.health.readiness().ok
    place.rounds()
    assert [event["n"] for event in place.events] == EVENTS
    rejects = (place.state / "rejects" / "a.csv.rejects.jsonl").read_bytes().splitlines()
    assert len(rejects) == 50
    counted = place.metrics.registry.get_sample_value
    assert counted("lakefeed_producer_rows_read_total") == 5_000
    assert counted("lakefeed_producer_rows_rejected_total", {"reason": "too_few_fields"}) == 50


def test_a_file_is_resumed_after_a_restart(place: Place) -> None:
    place.broker.topic.before_send = breaking(2, lambda: place.stop.set())
    place.write("a.csv", ROWS)
    place.rounds()
    assert len(place.events) == 2_000
    place.restart()
    place.rounds()
    assert [event["n"] for event in place.events] == EVENTS
    rejects = (place.state / "rejects" / "a.csv.rejects.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["row"] for line in rejects] == list(range(100, 5001, 100))


def test_a_renamed_file_is_resumed_under_its_first_name(place: Place) -> None:
    place.broker.topic.before_send = breaking(2, lambda: place.stop.set())
    path = place.write("a.csv", ROWS)
    place.rounds()
    place.restart()
    path.rename(place.folder / "b.csv")
    place.rounds()
    assert [event["n"] for event in place.events] == EVENTS
    assert {dict(headers)["source"] for _, _, headers in place.broker.topic.records} == {b"a.csv"}


def test_a_lost_state_repeats_no_row_of_the_newest_files(place: Place, tmp_path: Path) -> None:
    place.broker.topic.before_send = breaking(4, lambda: place.stop.set())
    place.write("a.csv", "n\n1\n2\n")
    place.write("b.csv", ROWS)
    place.rounds()
    place.state = tmp_path / "another"
    place.restart()
    place.rounds()
    assert [event["n"] for event in place.events] == [1, 2, *EVENTS]
    assert place.files("done") == 2


def test_a_file_that_changes_after_some_rows_were_published_is_refused(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.broker.topic.before_send = breaking(2, lambda: place.stop.set())
    path = place.write("a.csv", ROWS)
    place.rounds()
    place.restart()
    path.write_text(ROWS + "5001,x\n")
    place.rounds()
    assert len(place.events) == 2_000
    assert "changed after the first 2,020 rows of it had been published" in caplog.text
    assert "Restore the old content to resume it, or put the rows" in caplog.text
    assert place.files("changed") == 1


def test_content_that_only_the_topic_knows_is_not_mixed_with_other_content(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = place.write("a.csv", "n\n1\n2\n")
    place.rounds()
    place.state = tmp_path / "another"
    place.restart()
    path.write_text("n\n1\n3\n")
    place.rounds()
    place.rounds()
    assert place.events == [{"n": 1}, {"n": 2}]
    assert place.files("changed") == 1
    assert caplog.text.count("the rows that are not published yet") == 1


def test_a_file_of_another_producer_is_waited_for(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    path = place.write("a.csv", "n\n1\n")
    with lock_file(path):
        place.write("b.csv", "n\n2\n")
        place.rounds()
        place.rounds()
        assert place.events == [{"n": 2}]
        assert caplog.text.count("a.csv is being published by another lakefeed-producer") == 1
    place.rounds()
    assert place.events == [{"n": 2}, {"n": 1}]


# ---- liveness --------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["Kafka", "disk"])
def test_a_stuck_call_is_detected_within_30_seconds(
    place: Place, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """With the default; tests/integration has the service itself with a shorter one."""
    seen: list[bool] = []

    def silent(seconds: float) -> bool:
        place.now += seconds
        return place.health.liveness().ok

    def stuck(*_: object) -> None:
        if not seen:
            seen.extend([silent(20), silent(10)])
            assert place.health.liveness().reasons == {"watch": "silent for 30 s"}

    if where == "Kafka":
        place.broker.topic.before_send = stuck
    else:
        fstat = os.fstat

        def status(descriptor: int) -> os.stat_result:
            stuck()
            return fstat(descriptor)

        monkeypatch.setattr("lakefeed_producer.csv.file.os.fstat", status)
    place.write("a.csv", "n\n1\n")
    place.rounds()
    assert seen == [True, False]
    assert place.events == [{"n": 1}]
    place.watch.round()
    place.health.beat("watch")
    assert place.health.liveness().ok, "it was slow, and has recovered"


def test_a_slow_rate_is_not_stuck(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """One event per 10 s, and more than one heartbeat per second."""
    place.clock = lambda: place.now
    place.options = FileOptions(Dialect(), {}, rate=0.1)
    place.stall_seconds = 1
    place.restart()

    def wait(seconds: float) -> None:
        place.now += seconds
        assert place.health.liveness().ok
        assert place.health.readiness().ok

    monkeypatch.setattr(place.broker.topic, "wait", wait)
    place.write("a.csv", "n\n1\n2\n3\n")
    began = place.now
    place.rounds()
    assert place.events == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert 30 <= place.now - began < 35


def test_one_state_folder_is_for_one_watcher(place: Place) -> None:
    with pytest.raises(SettingsError, match="another lakefeed-producer uses this folder"):
        Ledger(place.state)
    place.ledger.close()
    Ledger(place.state).close()


def test_a_damaged_state_is_reported(tmp_path: Path) -> None:
    (tmp_path / "producer.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(LakefeedError, match="is damaged"):
        Ledger(tmp_path)


def test_the_loop_ends_on_request(place: Place) -> None:
    place.write("a.csv", "n\n1\n")

    def stop() -> None:
        try:
            wait_for(lambda: place.health.readiness().ok and place.health.liveness().ok)
        finally:
            place.stop.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    place.watch.run()
    stopper.join()
    assert place.health.readiness().ok
