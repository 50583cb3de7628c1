"""`lakefeed-producer publish`, killed and restarted several times, and two concurrent ones."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from lakefeed_producer.kafka import journal
from tests.helpers.commands import Done
from tests.helpers.publishing import Topic, check_whole, good, make_topic, publish, start, write
from tests.helpers.waiting import wait_for

SEED = int(os.environ.get("SEED", "20240229"))


@pytest.mark.parametrize("options", [(), ("--key", "k")], ids=["no key", "key"])
def test_a_run_that_is_killed_at_any_moment_leaves_each_row_once(
    kafka: str, topic: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Resumed with the partitions of the start, and again after some were added."""
    rows, chance = 6_000, random.Random(SEED)
    write(tmp_path / "x.csv", rows)
    make_topic(kafka, topic, 4)
    there = Topic(kafka, topic)
    admin = AdminClient({"bootstrap.servers": kafka})
    kills = 0
    while kills < 4:
        # After four of these, rows for nine seconds are left, in case this process is slow.
        goal = there.size() + chance.randrange(1, 600)
        with start(tmp_path, "publish", "x.csv", "--rate", "400", *options, kafka=kafka, topic=topic) as run:
            wait_for(partial(lambda size: there.size() >= size or run.poll() is not None, goal), 60)
            time.sleep(chance.random() * 0.1)
            assert run.poll() is None, "it ended before it could be killed"
            run.kill()
        kills += 1
        if kills == 2:
            admin.create_partitions([NewPartitions(topic, 6)])[topic].result(30)
    assert 0 < there.size() < len(good(rows))
    last = publish(tmp_path, "x.csv", *options, "--summary", "s.json", kafka=kafka, topic=topic)
    assert last.returncode == 3, last.stderr
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["events_found"] + summary["events_delivered"] == len(good(rows))
    check_whole(there, good(rows), keyed=bool(options))
    rejects = [json.loads(line) for line in (tmp_path / "x.csv.rejects.jsonl").read_text().splitlines()]
    assert [reject["row"] for reject in rejects] == list(range(50, rows + 1, 50))

    again = publish(tmp_path, "x.csv", *options, kafka=kafka, topic=topic)
    assert again.returncode == 3
    assert "x.csv is already published. To publish all rows again, use --republish" in again.stderr
    assert there.size() == len(good(rows))
    there.close()


def test_a_whole_file_is_published_again_only_when_asked(kafka: str, topic: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("n,k\n1,1\n2,2\n")
    there = Topic(kafka, topic)
    before = 0
    for options, size in (((), 2), ((), 2), (("--republish",), 4), ((), 4), (("--limit", "1"), 4)):
        done = publish(tmp_path, "x.csv", *options, kafka=kafka, topic=topic)
        assert done.returncode == 0, done.stderr
        assert there.size() == size
        assert ("x.csv is already published" in done.stderr) is (size == before)
        before = size
    there.close()


@pytest.mark.smoke
def test_a_file_that_was_changed_after_a_kill_is_refused(kafka: str, topic: str, tmp_path: Path) -> None:
    write(tmp_path / "x.csv")
    there = Topic(kafka, topic)
    with start(tmp_path, "publish", "x.csv", "--rate", "400", kafka=kafka, topic=topic) as run:
        wait_for(lambda: there.size() > 200, 60)
        run.kill()
    before = (tmp_path / "x.csv").read_text()
    (tmp_path / "x.csv").write_text(before.replace("1,1\n", "1,2\n", 1))
    refused = publish(tmp_path, "x.csv", kafka=kafka, topic=topic)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(
        "error: x.csv: its content differs from what was published under this name at "
    )
    assert (
        "or put the rows that are not published yet, below the header, into a file with another name"
        in refused.stderr
    )
    assert there.size() < len(good())
    (tmp_path / "x.csv").write_text(before)
    done = publish(tmp_path, "x.csv", kafka=kafka, topic=topic)
    assert done.returncode == 3, done.stderr
    check_whole(there, good())
    there.close()


def test_the_rows_that_retention_has_deleted_are_not_sent_again(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    write(tmp_path / "x.csv", 3_000)
    make_topic(kafka, topic, 2)
    there = Topic(kafka, topic)
    publish(tmp_path, "x.csv", "--limit", "2000", kafka=kafka, topic=topic)
    kept = there.size()
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.delete_records([TopicPartition(topic, 0, 300)]).values():
        future.result(10)
    done = publish(tmp_path, "x.csv", "--summary", "s.json", kafka=kafka, topic=topic)
    assert done.returncode == 3, done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["events_delivered"] == len(good(3_000)) - kept
    assert there.size() == len(good(3_000))
    there.close()


# ---- two at a time ---------------------------------------------------------------------------------


# Longer than a second producer needs to find out, on a busy machine too.
LONG = 8_000


def test_a_second_producer_on_the_same_file_is_refused(kafka: str, topic: str, tmp_path: Path) -> None:
    write(tmp_path / "x.csv", LONG)
    there = Topic(kafka, topic)
    with start(tmp_path, "publish", "x.csv", "--rate", "100", kafka=kafka, topic=topic) as first:
        wait_for(lambda: there.size() > 100, 60)
        second = publish(tmp_path, "x.csv", kafka=kafka, topic=topic)
        assert second.returncode == 1
        assert second.stderr.splitlines()[-1].startswith(
            "error: x.csv is being published by another lakefeed-producer on this computer"
        )
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 130
    assert publish(tmp_path, "x.csv", kafka=kafka, topic=topic).returncode == 3
    check_whole(there, good(LONG))
    there.close()


def test_a_producer_on_another_computer_is_noticed_by_the_rows_that_arrive(
    kafka: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the kernel, a copy of the file in another folder is like a file on another computer."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "x.csv", LONG)
    there = Topic(kafka, topic)
    with start(tmp_path / "here", "publish", "x.csv", "--rate", "100", kafka=kafka, topic=topic) as first:
        wait_for(lambda: there.size() > 100, 60)
        with monkeypatch.context() as patch:
            # On a busy machine, no row may arrive for half a second.
            patch.setattr(journal.Journal.__init__, "__defaults__", (5.0,))
            second = publish(tmp_path / "there", "x.csv", kafka=kafka, topic=topic)
        assert second.returncode == 1
        assert "x.csv is being published by another producer: rows of it arrive" in second.stderr
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 130
    done = publish(tmp_path / "there", "x.csv", kafka=kafka, topic=topic)
    assert done.returncode == 3, done.stderr
    check_whole(there, good(LONG))
    there.close()


def test_two_producers_that_start_at_once_on_two_computers_end_with_an_error(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    make_topic(kafka, topic, 2)
    runs = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "x.csv", 1_500)
        runs.append(start(tmp_path / folder, "publish", "x.csv", "--rate", "100", kafka=kafka, topic=topic))
    errors = []
    for run in runs:
        with run:
            errors.append(run.communicate(timeout=90)[1])
    assert 1 in [run.returncode for run in runs], errors
    assert any("x.csv is being published by another producer" in error for error in errors)


# ---- a file that changes ---------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a small file in many chunks, like a large one."""
    monkeypatch.setattr("lakefeed_producer.csv.file.CHUNK_BYTES", 4 << 10)


def publish_and_change(tmp_path: Path, kafka: str, topic: str, change: Callable[[], object]) -> Done:
    """Publish `x.csv` and change it once rows of it have arrived."""
    there = Topic(kafka, topic)

    def change_in_the_middle() -> None:
        wait_for(lambda: there.size() > 200, 60)
        change()

    changer = threading.Thread(target=change_in_the_middle)
    changer.start()
    try:
        return publish(tmp_path, "x.csv", "--rate", "1000", kafka=kafka, topic=topic)
    finally:
        changer.join()
        there.close()


@pytest.mark.usefixtures("small_blocks")
def test_a_file_that_grows_while_it_is_published_is_noticed(kafka: str, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, LONG)
    before = path.stat().st_size

    def grow() -> None:
        with path.open("a") as more:
            more.write("300001,1\n")

    done = publish_and_change(tmp_path, kafka, topic, grow)
    assert done.returncode == 1, done.stderr
    counts, last = done.stderr.splitlines()[-2:]
    there = Topic(kafka, topic)
    arrived = there.size()
    there.close()
    assert 200 < arrived < len(good(LONG))
    assert f"{arrived:,} events delivered" in counts
    assert last.startswith(
        f"error: x.csv was changed while it was read: it had {before:,} bytes and has {before + 9:,}"
    )
    refused = publish(tmp_path, "x.csv", kafka=kafka, topic=topic)
    assert (refused.returncode, "its content differs from" in refused.stderr) == (1, True)


@pytest.mark.usefixtures("small_blocks")
def test_a_file_that_is_cut_while_it_is_published_is_noticed(kafka: str, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, LONG)
    done = publish_and_change(tmp_path, kafka, topic, lambda: os.truncate(path, 100))
    assert done.returncode == 1, done.stderr
    assert "x.csv was changed while it was read" in done.stderr.splitlines()[-1]
