"""The command line as a user sees it: messages, exit codes, files; without a broker."""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakefeed_producer.csv.file_names import safe_file_name
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.watch.ledger import Ledger
from tests.helpers.memory_topic import MemoryTopic
from tests.helpers.publishing import command

CARE = Path(__file__).parents[2] / "data" / "care.csv"


def process(
    folder: Path, *arguments: str, before: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFEED_")}
    return subprocess.run(
        [sys.executable, "-m", "lakefeed_producer", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=before,
    )


def test_a_dry_run_prints_events_and_nothing_else_to_standard_output(tmp_path: Path) -> None:
    done = command(tmp_path, "publish", str(CARE), "--dry-run", "--limit", "2", "--summary", "s.json")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        '{"code":"007","name":"Bolt, M6","description":"plain","price":0.10,"in_stock":true,"grosse_cm":1}',
        '{"code":"0042","name":"Café crème","description":null,"price":2.50,"in_stock":false,'
        '"grosse_cm":null}',
    ]
    assert "care.csv: 2 rows read, 2 events printed, 0 rows rejected" in done.stderr
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["rows_read"], summary["events_delivered"], summary["rows_rejected"]) == (2, 2, 0)
    assert [one["file"] for one in summary["files"]] == [str(CARE)]
    assert [one.name for one in tmp_path.iterdir()] == ["s.json"]


def test_a_process_prints_the_same(tmp_path: Path) -> None:
    arguments = ("publish", str(CARE), "--dry-run", "--rejects", "r.jsonl")
    here, there = command(tmp_path, *arguments), process(tmp_path, *arguments)
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout)
    # On a busy machine, progress may be shown before.
    last = [text.splitlines()[-1] for text in (here.stderr, there.stderr)]
    without_speed = [line.rpartition(" rejected")[:2] for line in last]
    assert without_speed[0] == without_speed[1]


def test_names_can_be_kept(tmp_path: Path) -> None:
    done = command(tmp_path, "publish", str(CARE), "--dry-run", "--limit", "1", "--column-names", "as-is")
    assert '"In Stock":true,"Größe (cm)":1}' in done.stdout


def test_rejected_rows_end_with_3_and_are_in_the_rejects_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.csv").write_bytes(b"a,b\n1,2\n3\n4,\xff\n")
    done = command(tmp_path, "publish", "in/bad.csv", "--dry-run")
    assert done.returncode == 3
    assert (
        "bad.csv: 3 rows read, 1 events printed, 2 rows rejected (see bad.csv.rejects.jsonl)" in done.stderr
    )
    lines = [json.loads(line) for line in (tmp_path / "bad.csv.rejects.jsonl").read_text().splitlines()]
    assert [(line["line"], line["reason"]) for line in lines] == [(3, "too_few_fields"), (4, "bad_encoding")]


def test_rejects_of_several_files_go_to_the_given_file_and_replace_old_ones(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1\n")
    (tmp_path / "2.csv").write_text("a,b\n1,2,3\n")
    for _ in range(2):
        done = command(tmp_path, "publish", "1.csv", "2.csv", "--dry-run", "--rejects", "r.jsonl")
        assert done.returncode == 3
        lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
        assert [(line["file"], line["reason"]) for line in lines] == [
            ("1.csv", "too_few_fields"),
            ("2.csv", "too_many_fields"),
        ]


def test_a_reader_that_closes_the_output_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("a,b\n" + "1,2\n" * 200_000)
    command = f"{sys.executable} -m lakefeed_producer publish long.csv --dry-run | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, '{"a":1,"b":2}\n')
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file x.csv"),
        (b"", "x.csv is empty: it has no header"),
        (b"\n\n", "x.csv is empty: it has no header"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "x.csv is not a CSV file but gzip. Decompress it first"),
        (b"PK\x03\x04...", "x.csv is not a CSV file but Zip or Excel (xlsx)"),
        (b"PAR1....", "x.csv is not a CSV file but Parquet"),
        ("a,b\n1,2\n".encode("utf-16"), "x.csv looks like UTF-16 text. Publish it with --encoding utf-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "x.csv looks like UTF-16-LE text"),
        (b"a,b\n" + bytes(1000), "x.csv is not a text file: it is full of NUL bytes"),
        (b"a,\xe9\n1,2\n", "the header has bytes that are not utf-8"),
        (b'a,"b\n1,2\n', "the header (line 1) cannot be read: a quote opens a field and is not closed"),
        (b"x" * 200_000, "the header (line 1) cannot be read: field larger than"),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_1_and_one_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "x.csv").write_bytes(content)
    done = command(tmp_path, "publish", "x.csv", "--dry-run")
    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_and_standard_input_are_refused_with_advice(tmp_path: Path) -> None:
    done = command(tmp_path, "publish", ".", "--dry-run")
    assert (done.returncode, "is a folder. Name the CSV files" in done.stderr) == (1, True)
    done = command(tmp_path, "publish", "-", "--dry-run")
    assert (done.returncode, "Save it to a file first" in done.stderr) == (1, True)
    os.mkfifo(tmp_path / "pipe")
    done = command(tmp_path, "publish", "pipe", "--dry-run")
    assert (done.returncode, "is not a regular file" in done.stderr) == (1, True)


def as_any_user() -> None:
    """Drop what allows root to read everything: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    if sys.platform == "linux":
        drop_from_bounding_set = 24
        for capability in (1, 2):
            ctypes.CDLL(None).prctl(drop_from_bounding_set, capability)


def test_a_file_without_permission(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    (tmp_path / "x.csv").chmod(0)
    done = process(tmp_path, "publish", "x.csv", "--dry-run", before=as_any_user)
    assert (done.returncode, "no permission" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ([], {}, "Missing argument"),
        (["x.csv", "--nonsense"], {}, "No such option"),
        (["x.csv", "--rate", "0"], {}, "--rate='0': input should be greater than 0"),
        (["x.csv", "--rate", "inf"], {}, "--rate='inf': input should be a finite number"),
        (["x.csv"], {"LAKEFEED_RATE": "fast"}, "LAKEFEED_RATE='fast': input should be a valid number"),
        (["x.csv", "--column-names", "x"], {}, "--column-names='x': input should be 'sql' or 'as-is'"),
        (["x.csv", "--delimiter", ";;"], {}, "--delimiter=';;': it must be one ASCII character"),
        (["x.csv", "--encoding", "utf-9"], {}, "--encoding='utf-9': there is no such text encoding"),
        (["x.csv", "--encoding", "idna"], {}, "--encoding='idna': there is no such text encoding"),
        (["x.csv", "--rejects", "x.csv"], {}, "--rejects x.csv: this is one of the CSV files"),
        (["x.csv", "--rejects", "no/r.jsonl"], {}, "--rejects no/r.jsonl: cannot be written"),
        (["x.csv", "--rejects", "."], {}, "--rejects .: cannot be written"),
        (["x.csv", "--summary", "./x.csv"], {}, "--summary x.csv: this is one of the CSV files"),
        (["x.csv", "--summary", "no/s.json"], {}, "--summary no/s.json: cannot be written"),
        (["x.csv", "--topic", "a b"], {}, "--topic='a b'"),
        (["x.csv", "-b", "nowhere"], {}, "--kafka-bootstrap-servers='nowhere'"),
        (["x.csv", "-b", "localhost:65536"], {}, "a port is a number from 1 up to 65535"),
        (["x.csv"], {"LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": "a:1,b:0"}, "a port is a number from 1 up to 65535"),
        (["x.csv", "--key", "c"], {}, "--key c: x.csv has the columns a, b"),
        (
            ["x.csv", "--schema", "s.json"],
            {},
            "the schema names the column 'c', and x.csv has the columns a, b",
        ),
        (["x.csv", "--schema", "no.json"], {}, "the schema file no.json cannot be read"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_what_is_allowed(
    tmp_path: Path, arguments: list[str], variables: dict[str, Any], message: str
) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    (tmp_path / "s.json").write_text('{"a": "integer", "c": "string"}')
    done = command(tmp_path, "publish", "--dry-run", *arguments, **variables)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert (tmp_path / "x.csv").read_text() == "a,b\n1,2\n"


def test_text_that_is_not_the_named_encoding(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    done = command(tmp_path, "publish", "x.csv", "--dry-run", "--encoding", "utf-32")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: x.csv is not utf-32: ")


def test_rejects_of_files_of_one_name_are_all_kept(tmp_path: Path) -> None:
    for folder, row in (("1", "1"), ("2", "1,2,3")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text(f"a,b\n{row}\n")
    done = command(tmp_path, "publish", "1/a.csv", "2/a.csv", "--dry-run")
    assert done.returncode == 3
    lines = [json.loads(line) for line in (tmp_path / "a.csv.rejects.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["too_few_fields", "too_many_fields"]


def test_a_header_of_one_column_hints_at_another_delimiter(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a;b\n1;2\n")
    done = command(tmp_path, "publish", "x.csv", "--dry-run")
    assert done.returncode == 0
    assert "If the delimiter is another character, set --delimiter ';'" in done.stderr


def test_columns_that_are_renamed_are_reported(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("dt,temp,,Temp\n1743-11-01,6.068,1,2\n")
    for naming, last in (("sql", "temp_2"), ("as-is", "Temp_2")):
        done = command(tmp_path, "publish", "x.csv", "--dry-run", "--column-names", naming)
        assert done.stdout == f'{{"dt_2":"1743-11-01","temp":6.068,"column_3":1,"{last}":2}}\n'
        assert [line.split(" in the events")[0] for line in done.stderr.splitlines()[:3]] == [
            "warning: x.csv: column 1 ('dt') is called 'dt_2'",
            "warning: x.csv: column 3 ('') is called 'column_3'",
            f"warning: x.csv: column 4 ('Temp') is called '{last}'",
        ]
    (tmp_path / "x.csv").write_text("dt" + ",dt" * 19 + "\n" + "1" + ",1" * 19 + "\n")
    lines = command(tmp_path, "publish", "x.csv", "--dry-run").stderr.splitlines()
    assert len([line for line in lines if line.startswith("warning")]) == 11
    assert "x.csv: 10 more columns are renamed. To see all names: --dry-run --limit 1" in lines[10]


def test_nulls_are_named_by_options_or_a_setting(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("n,t\n-,?\n1,NA\n")
    events = '{"n":null,"t":null}\n{"n":1,"t":"NA"}\n'
    dry = ("publish", "x.csv", "--dry-run")
    assert command(tmp_path, *dry, "--null", "-", "--null", "?").stdout == events
    assert command(tmp_path, *dry, LAKEFEED_NULL="-,?").stdout == events
    assert command(tmp_path, *dry).stdout == '{"n":"-","t":"?"}\n{"n":"1","t":"NA"}\n'


def test_a_null_may_have_a_comma(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('n,t\n"1,5",x\n5,y\n')
    events = '{"n":null,"t":"x"}\n{"n":5,"t":"y"}\n'
    dry = ("publish", "x.csv", "--dry-run")
    assert command(tmp_path, *dry, "--null", "1,5").stdout == events
    assert command(tmp_path, *dry, LAKEFEED_NULL='"1,5",?').stdout == events
    for broken in ('"', "a\nb"):
        done = command(tmp_path, *dry, LAKEFEED_NULL=broken)
        assert done.returncode == 2
        assert "line of CSV" in done.stderr
    (tmp_path / "x.csv").write_text('n,t\n1,a"b\n2,""""\n')
    assert command(tmp_path, *dry, "--null", '"').stdout == '{"n":1,"t":"a\\"b"}\n{"n":2,"t":null}\n'


@pytest.mark.parametrize("option", [("--null", "\udcff"), ("--encoding", "punycode")])
def test_a_text_that_cannot_be_used_is_a_usage_error(tmp_path: Path, option: tuple[str, str]) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    done = command(tmp_path, "publish", "x.csv", "--dry-run", *option)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {option[0]}=")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("odd", ["", "50\tt", "50\tt\tx\ty\tz"])
def test_rows_that_a_quote_swallows_need_not_be_regular(tmp_path: Path, odd: str) -> None:
    rows = [f"{number}\t{number}\t{number}\t{number}" for number in range(60)]
    rows[10], rows[20], rows[50] = '10\t"Foo\t1\t2', odd, '50\tBar"\t1\t2'
    (tmp_path / "x.csv").write_text("\n".join(["a\tb\tc\td", *rows, ""]))
    done = command(tmp_path, "publish", "x.csv", "--dry-run", "--delimiter", "tab")
    assert "lines within quotes look like rows" in done.stderr


def test_another_delimiter_is_suggested_if_the_header_has_more_of_it(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a;b,c;d\n1;2,3;4\n")
    done = command(tmp_path, "publish", "x.csv", "--dry-run")
    assert "the header has more ; than delimiters" in done.stderr
    (tmp_path / "x.csv").write_text("a;b,c\n1,4\n")
    assert "delimiter" not in command(tmp_path, "publish", "x.csv", "--dry-run").stderr


def test_quotes_that_are_ordinary_characters(tmp_path: Path) -> None:
    rows = [("1", '"Heroes" and more'), ("2", '"Foo'), ("3", 'Bar"'), ("4", '"Whole"'), ("5", 'a "\\ b')]
    (tmp_path / "x.tsv").write_text('n\t"name"\n' + "".join("\t".join(row) + "\n" for row in rows))
    tsv = ("publish", "x.tsv", "--dry-run", "--delimiter", "tab")
    done = command(tmp_path, *tsv)
    assert done.stdout.splitlines()[0] == '{"n":2,"name":"Foo\\n3\\tBar"}'
    assert "warning: x.tsv: 1 line within quotes look" in done.stderr
    assert "--quoting none" in done.stderr
    for way in ({}, {"LAKEFEED_QUOTING": "none"}):
        done = command(tmp_path, *tsv, *([] if way else ["--quoting", "none"]), **way)
        assert [tuple(json.loads(line).values()) for line in done.stdout.splitlines()] == [
            (int(number), name) for number, name in rows
        ]
        assert done.returncode == 0
        assert "warning" not in done.stderr
    done = command(tmp_path, "publish", "x.tsv", "--quoting", "both")
    assert (done.returncode, "--quoting='both': input should be 'standard' or 'none'" in done.stderr) == (
        2,
        True,
    )


def test_values_of_several_lines_cause_no_warning(tmp_path: Path) -> None:
    text = '1,2,"Dear Sir,\nplease, send\nit.\nYours, B"\n'
    (tmp_path / "x.csv").write_text("a,b,c\n" + 20 * text + '1,"Sir,\n",3\n')
    assert "warning" not in command(tmp_path, "publish", "x.csv", "--dry-run").stderr


def test_nothing_is_sent_of_any_file_when_the_header_of_one_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a\n1\n")
    (tmp_path / "2.csv").write_text('a,"b\n1,1\n')
    done = command(tmp_path, "publish", "1.csv", "2.csv", "--dry-run")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_folder_to_watch_must_exist(tmp_path: Path) -> None:
    done = command(tmp_path, "watch", "nowhere")
    assert (done.returncode, "there is no folder nowhere to watch" in done.stderr) == (2, True)


def test_a_second_watcher_on_the_same_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ledger = Ledger(tmp_path / "state")
    try:
        done = command(tmp_path, "watch", "in", "--state-folder", "state")
    finally:
        ledger.close()
    assert done.returncode == 2
    assert "another lakefeed-producer uses this folder" in done.stderr


def test_no_response_from_the_broker_ends_with_1_and_names_what_to_check(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    done = command(tmp_path, "publish", "x.csv", "-b", "127.0.0.1:1", LAKEFEED_KAFKA_TIMEOUT_SECONDS="1.5")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: no response from Kafka at 127.0.0.1:1 within 1.5 s")
    assert "Connection refused" in last
    assert "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS" in last


def test_a_broker_whose_name_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    done = command(
        tmp_path, "publish", "x.csv", "-b", "no-such-host.invalid:9092", LAKEFEED_KAFKA_TIMEOUT_SECONDS="5"
    )
    assert done.returncode == 1
    assert "no response from Kafka at no-such-host.invalid:9092" in done.stderr
    assert "resolve" in done.stderr


def test_several_files_are_not_read_back_from_the_topic(memory_topic: MemoryTopic, tmp_path: Path) -> None:
    names = [f"{number}.csv" for number in range(4)]
    for name in names:
        (tmp_path / name).write_text(f"n\n{name}\n")
    assert command(tmp_path, "publish", *names).returncode == 0
    assert memory_topic.read_records == 0
    assert command(tmp_path, "publish", *names).returncode == 0
    assert len(memory_topic.records) == 4
    before = memory_topic.read_records
    assert command(tmp_path, "publish", *names, "--republish").returncode == 0
    assert (len(memory_topic.records), memory_topic.read_records) == (8, before)


def test_the_old_spelling_of_republish_is_accepted_with_a_warning(
    memory_topic: MemoryTopic, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("n\n1\n")
    assert command(tmp_path, "publish", "x.csv").returncode == 0
    done = command(tmp_path, "publish", "x.csv")
    assert "x.csv is already published. To publish all rows again, use --republish" in done.stderr
    for options, warning in ((["--republish"], ""), (["--again"], "--again is deprecated. Use --republish")):
        before = len(memory_topic.records)
        done = command(tmp_path, "publish", "x.csv", *options)
        assert (done.returncode, len(memory_topic.records)) == (0, before + 1)
        assert [line for line in done.stderr.splitlines() if "deprecated" in line] == (
            [f"warning: {warning}"] if warning else []
        )


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9.csv"), "x" * 251 + ".csv"], ids=["bytes", "long"])
def test_a_file_may_have_any_name(memory_topic: MemoryTopic, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a,b\n1\n2,3\n")
    done = command(tmp_path, "publish", name, "--summary", "s.json")
    assert done.returncode == 3
    assert dict(memory_topic.records[0][2])["source"] == os.fsencode(name)
    [result] = json.loads((tmp_path / "s.json").read_text())["files"]
    assert result["file"].encode().decode("unicode_escape").encode("latin-1") == os.fsencode(name)
    [reject] = (tmp_path / result["rejects"]).read_text().splitlines()
    assert json.loads(reject)["file"] == result["file"]
    (tmp_path / name).write_text("a,b\n1,2\n")
    done = command(tmp_path, "publish", name)
    assert done.stderr.startswith(f"error: {result['file']}: its content differs from what was published")


@pytest.mark.parametrize("option", ["FILE", "--rejects", "--summary"])
def test_a_name_that_no_file_system_accepts(tmp_path: Path, option: str) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    name = "x" * 256
    done = command(
        tmp_path, "publish", "--dry-run", *([name] if option == "FILE" else ["x.csv", option, name])
    )
    assert done.returncode == (1 if option == "FILE" else 2)
    assert (
        f"{name} cannot be read: File name too long" in done.stderr
        or f"{option} {name}: cannot" in done.stderr
    )


def test_two_long_names_stay_apart() -> None:
    first, second = "x" * 250 + "1.csv", "x" * 250 + "2.csv"
    names = {safe_file_name(name, ".rejects.jsonl") for name in (first, second)}
    assert len(names) == 2
    assert {len(name) for name in names} == {255}
    assert safe_file_name("a.csv", ".rejects.jsonl") == "a.csv.rejects.jsonl"


def test_a_broker_that_stays_unreachable_is_not_reported_to_respond(
    monkeypatch: pytest.MonkeyPatch, memory_topic: MemoryTopic, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("n\n1\n")
    sent: list[EventBatch] = []

    def abandon() -> None:
        for batch in sent:
            batch.fail(range(batch.waiting), "it was given up", too_large=False, retryable=True)

    monkeypatch.setattr(memory_topic, "send", lambda batch, _: sent.append(batch))
    monkeypatch.setattr(memory_topic, "abandon", abandon)
    memory_topic.trouble = "Connection refused"
    done = command(tmp_path, "publish", "x.csv", LAKEFEED_DELIVERY_TIMEOUT_SECONDS="1")
    assert done.returncode == 1
    assert "waiting for Kafka at localhost:9092: Connection refused" in done.stderr
    assert "Kafka responds again" not in done.stderr


def test_an_option_that_is_not_called_like_its_setting_is_named_as_it_was_given(tmp_path: Path) -> None:
    done = command(tmp_path, "restore", "s3://lake/events/prices", "--to", "bad/name")
    assert done.returncode == 2
    assert "--to='bad/name'" in done.stderr
    assert "--topic" not in done.stderr
