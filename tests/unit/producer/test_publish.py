"""From a CSV file to records, with a publisher in memory."""

from __future__ import annotations

import codecs
import csv
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakefeed_common.errors import InputError, RefusedError, SettingsError, UnavailableError
from lakefeed_producer.csv.byte_columns import ConcatColumn
from lakefeed_producer.csv.column_types import DEFAULT_NULLS, ColumnType
from lakefeed_producer.csv.file import CsvFile, Dialect
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.kafka.publication import Publication, RowsInTopic
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.publish.deliveries import Deliveries
from lakefeed_producer.publish.delivery import Control
from lakefeed_producer.publish.dry_run import EmptyJournal, EmptyTracker
from lakefeed_producer.publish.plan import FileOptions, read_schema
from lakefeed_producer.publish.progress import Observe
from lakefeed_producer.publish.publish_file import PublishFile, PublishOptions
from lakefeed_producer.publish.rejects_file import RejectsFile
from tests.helpers.memory_topic import MemoryTopic

BEGAN = 1_700_000_000_000
CARE = Path(__file__).parents[2] / "data" / "care.csv"


@dataclass(frozen=True)
class Target:
    """A destination without a journal."""

    publisher: Any
    journal: EmptyJournal = field(default_factory=EmptyJournal)


class Run:
    """Publishes one file and keeps the results."""

    def __init__(
        self,
        path: Path,
        options: PublishOptions,
        publisher: Any,
        arrived: Sequence[int] = (),
        stop: threading.Event | None = None,
        observe: Observe = lambda _: None,
    ) -> None:
        self.path = path
        self.publisher = publisher
        self.metrics = ProducerMetrics()
        self.rejects_path = path.with_suffix(".rejects")
        control = Control(stop or threading.Event())
        publish = PublishFile(Target(publisher), options, self.metrics, control)
        plan = publish.plan(CsvFile(path, options.file.dialect))
        publication = Publication.new(plan.file.source, plan.sha256, 1, BEGAN)
        tracker = EmptyTracker(RowsInTopic(publication, np.isin(np.arange(plan.total + 1), arrived)))
        with RejectsFile(self.rejects_path) as rejects:
            self.progress = publish.send(plan, tracker, rejects, observe)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(value) for _, value, _ in self.publisher.records]

    @property
    def rejects(self) -> list[dict[str, Any]]:
        if not self.rejects_path.exists():
            return []
        return [json.loads(line) for line in self.rejects_path.read_text().splitlines()]

    def metric(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None
        return value


def run(
    path: Path,
    data: bytes | str | None = None,
    *,
    dialect: Dialect | None = None,
    schema: dict[str, ColumnType] | None = None,
    publisher: Any = None,
    arrived: Sequence[int] = (),
    stop: threading.Event | None = None,
    timeout_seconds: float = 120,
    observe: Observe = lambda _: None,
    **options: Any,
) -> Run:
    if data is not None:
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    file_options = FileOptions(dialect or Dialect(), schema or {}, **options)
    publish_options = PublishOptions(file_options, timeout_seconds)
    return Run(path, publish_options, publisher or MemoryTopic(), arrived, stop, observe)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.csv"


def test_the_rows_that_need_care_arrive_as_they_are(path: Path) -> None:
    done = run(path, CARE.read_bytes())
    assert not done.rejects_path.exists()
    assert done.events == [
        dict(zip(("code", "name", "description", "price", "in_stock", "grosse_cm"), row, strict=True))
        for row in [
            ("007", "Bolt, M6", "plain", 0.1, True, 1),
            ("0042", "Café crème", None, 2.5, False, None),
            ("123", 'Shelf "Oslo"', "two\nlines", 119.0, True, 80),
            ("9001", '5" disk', "back\\slash", None, None, 9),
            (None, "Ångström ruler", "NA", 1e-10, True, None),
        ]
    ]


def test_records_carry_key_source_publication_and_row(path: Path) -> None:
    done = run(path, "Id,v\n01,a\n\n,b\n03,c,d\n04,e\n", key="id")
    common = [("source", b"some.csv"), ("publication", b"baf337ed8e17fdc8.1.1700000000000")]
    assert [(key, headers) for key, _, headers in done.publisher.records] == [
        (b"01", [*common, ("row", b"1")]),
        (None, [*common, ("row", b"2")]),
        (b"04", [*common, ("row", b"4")]),
    ]


@pytest.mark.parametrize(
    ("data", "line", "row", "reason", "message", "raw"),
    [
        (b"1,a\n2,b,c\n3,d\n", 3, 2, "too_many_fields", "3 fields, and the header has 2", "2,b,c"),
        (b"1,a\n 2,b,c\t\n3,d\n", 3, 2, "too_many_fields", "3 fields, and the header has 2", " 2,b,c\t"),
        (b"1,a\n\n2\n3,d\n", 4, 2, "too_few_fields", "1 field, and the header has 2", "2"),
        (b'1,a\n2,"b\n3,d\n', 3, 2, "bad_quotes", "a quote opens a field and is not closed", '2,"b'),
        (b'1,a\n2,"b"x\n3,d\n', 3, 2, "bad_quotes", "text between a closing quote", '2,"b"x'),
        (b"1,a\n2,b\0\n3,d\n", 3, 2, "nul_byte", "NUL", "2,b\0"),
        (b"1,a\n2," + b"x" * 9999 + b"\n3,d\n", 3, 2, "row_too_long", "longer than", "2," + "x" * 9999),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value else "",
)
def test_a_row_that_is_not_a_csv_row_is_rejected(
    path: Path, data: bytes, line: int, row: int, reason: str, message: str, raw: str
) -> None:
    done = run(path, b"n,t\n" + data, dialect=Dialect(max_row_bytes=4096))
    [reject] = done.rejects
    assert message in reject.pop("message")
    reject.pop("raw_is_cut", None)
    assert reject.pop("path") == str(path)
    assert reject == {"file": "some.csv", "line": line, "row": row, "reason": reason, "raw": raw}
    assert done.events == [{"n": 1, "t": "a"}, {"n": 3, "t": "d"}]
    assert (done.progress.read, done.progress.delivered, done.progress.rejected) == (3, 2, 1)
    assert done.metric("lakefeed_producer_rows_rejected_total", reason=reason) == 1
    assert done.metric("lakefeed_producer_rows_read_total") == 3
    assert done.metric("lakefeed_producer_events_delivered_total") == 2


def test_bytes_that_are_not_the_encoding_reject_their_row_only(path: Path) -> None:
    done = run(path, b"n,t\n1,\xc3\xa9\n2,caf\xe9\n3,d\n")
    assert done.events == [{"n": 1, "t": "é"}, {"n": 3, "t": "d"}]
    [reject] = done.rejects
    assert (reject["reason"], reject["row"]) == ("bad_encoding", 2)
    assert "not utf-8 at byte 6" in reject["message"]
    assert reject["raw_base64"] == "MixjYWbp"
    assert "raw" not in reject


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "shift_jis"])
def test_other_encodings(path: Path, encoding: str) -> None:
    text = "ソ|表" if encoding == "shift_jis" else "café"
    data = f'Größe;t\n1;{text}\n2;"x;\n"\n'.replace("Größe", "g" if encoding == "shift_jis" else "Größe")
    done = run(path, data.encode(encoding), dialect=Dialect(";", encoding))
    assert [event["t"] for event in done.events] == [text, "x;\n"]
    assert not done.rejects


def test_bytes_that_cp1252_does_not_define_are_in_the_reject(path: Path) -> None:
    done = run(path, b"n,t\n1,\x81\n2,\xe9\n", dialect=Dialect(encoding="cp1252"))
    assert done.events == [{"n": 2, "t": "é"}]
    assert done.rejects[0]["raw_base64"] == "MSyB"


def test_a_value_that_does_not_fit_the_schema_rejects_its_row(path: Path) -> None:
    schema = {"n": ColumnType.INTEGER, "Adj P": ColumnType.NUMBER, "b": ColumnType.BOOLEAN}
    data = "n,Adj P,b\n1,1.5,true\nx,1,true\n2,y,true\n3,1,yes\n,,\n"
    done = run(path, data, schema=schema)
    assert done.events == [
        {"n": 1, "adj_p": 1.5, "b": True},
        {"n": None, "adj_p": None, "b": None},
    ]
    assert [(reject["row"], reject["reason"], reject["message"]) for reject in done.rejects] == [
        (2, "type_mismatch", "n: 'x' is not an integer"),
        (3, "type_mismatch", "Adj P: 'y' is not a number"),
        (4, "type_mismatch", "b: 'yes' is not a boolean"),
    ]


def test_a_schema_can_make_numbers_strings(path: Path) -> None:
    done = run(path, "a,b\n1,2\n", schema={"a": ColumnType.STRING})
    assert done.events == [{"a": "1", "b": 2}]


def test_an_event_larger_than_the_topic_accepts_is_rejected_before_it_is_sent(path: Path) -> None:
    publisher = MemoryTopic(max_event_bytes=200)
    done = run(path, f"n,t\n1,a\n2,{'x' * 300}\n3,b\n", publisher=publisher)
    assert [event["n"] for event in done.events] == [1, 3]
    [reject] = done.rejects
    assert (reject["reason"], reject["line"], reject["row"]) == ("event_too_large", 3, 2)
    assert "more than the 200" in reject["message"]
    assert reject["raw"] == "2," + "x" * 300
    assert done.progress.position == 3


def test_an_event_that_is_too_large_is_found_in_whatever_block_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakefeed_producer.csv.file.CHUNK_BYTES", 64)
    lines = [f"{row},{'x' * (300 if row in (41, 77) else row % 9)}" for row in range(1, 101)]
    lines[39] = "no row"
    large = [(41, 42, lines[40]), (77, 78, lines[76])]
    for publisher in (MemoryTopic(max_event_bytes=200), LargeRefused()):
        done = run(path, "\n".join(["n,t", *lines]), publisher=publisher)
        found = [(one["row"], one["line"], one["raw"]) for one in done.rejects if one["row"] != 40]
        assert found == large
        assert [event["n"] for event in done.events] == [n for n in range(1, 101) if n not in (40, 41, 77)]
        done.rejects_path.unlink()


class LargeRefused(MemoryTopic):
    """Refuses events for their size after they were sent."""

    def send(self, batch: EventBatch, keep_sending: Callable[[], bool]) -> None:
        values = batch.values.to_list()
        large = [at for at, value in enumerate(values) if len(value) > 200]
        self.records += [(None, value, []) for at, value in enumerate(values) if at not in large]
        batch.fail(large, "too large", too_large=True, retryable=False)
        batch.acknowledge(len(values) - len(large), 0.01)


def test_quotes_in_the_header_do_not_affect_rows(path: Path) -> None:
    done = run(path, 'screen 5",price\n1,2\nno row\n3,4\n')
    assert [list(event.values()) for event in done.events] == [[1, 2], [3, 4]]
    assert [one["raw"] for one in done.rejects] == ["no row"]


def test_a_type_holds_over_the_whole_file(path: Path) -> None:
    rows = [str(row) for row in range(300_000)]
    done = run(path, "\n".join(["id", *rows, "x1"]), limit=3)
    assert done.events == [{"id": "0"}, {"id": "1"}, {"id": "2"}]


def test_a_single_column_keeps_white_space_and_skips_empty_lines(path: Path) -> None:
    assert run(path, 'a\nx\n\n  \n""\ny\n').events == [{"a": "x"}, {"a": "  "}, {"a": None}, {"a": "y"}]


def test_a_byte_order_mark_in_the_middle_of_a_file_is_kept(path: Path) -> None:
    done = run(path, b"\xef\xbb\xbfa,b\n\xef\xbb\xbfx,1\n")
    assert done.events == [{"a": "\ufeffx", "b": 1}]


def test_a_header_alone_gives_no_events(path: Path) -> None:
    done = run(path, "a,b\n")
    assert done.events == []
    assert done.progress.read == 0


def test_the_metrics_of_position_and_rows_stay_after_a_file(path: Path) -> None:
    done = run(path, "a,b\n1,2\n3\n4,5\n")
    names = ("lakefeed_producer_file_position_rows", "lakefeed_producer_file_rows")
    assert [done.metric(name) for name in names] == [3, 3]


def test_limit_counts_data_rows(path: Path) -> None:
    done = run(path, "a,b\n1,2\n1\n3,4\n5,6\n", limit=3)
    assert [event["a"] for event in done.events] == [1, 3]
    assert done.progress.position == done.progress.rows == 3


def test_rows_in_the_topic_are_not_sent_and_rejects_are_reported_again(path: Path) -> None:
    data = "a,b\n" + "".join(f"{row},x\n" if row % 3 else f"{row}\n" for row in range(1, 11))
    whole = run(path, data)
    rejects = whole.rejects_path.read_bytes()
    rest = run(path, arrived=[1, 2, 5, 8])
    assert [event["a"] for event in rest.events] == [4, 7, 10]
    assert (rest.progress.found, rest.progress.delivered, rest.progress.position) == (4, 3, 10)
    assert rest.rejects_path.read_bytes() == rejects
    nothing = run(path, arrived=[1, 2, 4, 5, 7, 8, 10])
    assert (nothing.events, nothing.progress.found, nothing.progress.position) == ([], 7, 10)


values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["", "1", "-2", "3.50", "true", "NaN", "NULL", "007", "1e5", '"', "\\", "\n", "\r\n", ","]
)


@given(
    rows=st.lists(st.lists(values, min_size=3, max_size=3), max_size=12),
    start=st.integers(1, 5),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_events_have_the_values_of_the_file(rows: list[list[str]], start: int, tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["a", "b", "c"], *rows])
    done = run(path, arrived=range(1, start))
    assert not done.rejects
    assert len(done.events) == max(0, len(rows) - start + 1)
    are_text = {name for event in done.events for name, value in event.items() if isinstance(value, str)}
    for event, row in zip(done.events, rows[start - 1 :], strict=True):
        for (name, value), text in zip(event.items(), row, strict=True):
            match value:
                case None:
                    # In a string column, what pandas reads as missing is data.
                    assert text == "" or (text in DEFAULT_NULLS and name not in are_text)
                case bool():
                    assert text.lower() == str(value).lower()
                case str():
                    assert value == text
                case _:
                    assert value == (int(text) if isinstance(value, int) else float(text))


@pytest.mark.parametrize(("rate", "rows"), [(40, 40), (2_000, 2_500), (10_000, 12_000)])
def test_a_rate_is_held(path: Path, rate: float, rows: int) -> None:
    done = run(path, "a,b\n" + "1,2\n" * rows, rate=rate)
    assert done.progress.delivered == rows
    # A busy machine may be slower, but never faster.
    assert 0.98 * rows / rate < done.progress.seconds < rows / rate + 15


class FailingPublisher(MemoryTopic):
    """Accepts some events, and no more after them."""

    def __init__(self, good: int, *, too_large: bool = False, retryable: bool = False) -> None:
        super().__init__()
        self._good = good
        self._too_large = too_large
        self._retryable = retryable

    def send(self, batch: EventBatch, keep_sending: Callable[[], bool]) -> None:
        accepted = batch.values.to_list()[: self._good - len(self.records)]
        self.records += [(None, value, []) for value in accepted]
        left = range(len(accepted), len(batch))
        batch.fail(left, "refused by the broker", too_large=self._too_large, retryable=self._retryable)
        batch.acknowledge(len(accepted), 0.01)


@pytest.mark.parametrize(("retryable", "error"), [(True, UnavailableError), (False, RefusedError)])
def test_an_event_that_is_not_accepted_ends_the_run_and_names_the_row(
    path: Path, retryable: bool, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"1,500 events were delivered.*first undelivered row is 1,502"):
        run(path, "a,b\n1\n" + "1,2\n" * 5_000, publisher=FailingPublisher(1_500, retryable=retryable))


def test_an_event_that_the_broker_refuses_for_its_size_is_rejected_with_its_raw_text(path: Path) -> None:
    publisher = FailingPublisher(2, too_large=True)
    done = run(path, "a,b\n1,2\n3,4\n5,6\n", publisher=publisher)
    [reject] = done.rejects
    assert (reject["reason"], reject["row"], reject["raw"]) == ("event_too_large", 3, "5,6")
    assert (done.progress.delivered, done.progress.rejected, done.progress.position) == (2, 1, 3)


def test_a_stop_ends_between_batches_and_reports_the_position(path: Path) -> None:
    stop, publisher = threading.Event(), MemoryTopic()
    publisher.before_send = lambda _: stop.set()
    begin = time.monotonic()
    done = run(path, "a,b\n" + "1,2\n" * 100_000, rate=1000, stop=stop, publisher=publisher)
    assert time.monotonic() - begin < 30, "all rows would take 100 s"
    assert done.progress.interrupted
    assert 0 < done.progress.position == done.progress.delivered < 100_000


def test_a_file_that_changes_while_it_is_read_is_an_error(path: Path) -> None:
    path.write_text("a,b\n1,2\n")
    file = CsvFile(path, Dialect())
    path.write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(InputError, match="was changed while it was read"):
        list(file.blocks())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must be a JSON object"),
        ("{", "is not JSON"),
        ('{"a": "decimal"}', "a: 'decimal' is not a type. The types are integer, number, boolean, string"),
    ],
)
def test_a_schema_file_that_is_wrong_is_reported(path: Path, content: str, message: str) -> None:
    path.write_text(content)
    with pytest.raises(SettingsError, match=message):
        read_schema(path)


@pytest.mark.parametrize("chunk", [1, 3, 1 << 19])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_before_the_header_are_skipped_and_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, end: str
) -> None:
    monkeypatch.setattr("lakefeed_producer.csv.file.CHUNK_BYTES", chunk)
    text = end.join(['Prices, "daily', "", "source: x,y,z", "a,b", "1,2", "3", "a,b", "4,5", ""])
    done = run(path, text, dialect=Dialect(skip=3), schema={"a": ColumnType.INTEGER})
    assert done.events == [{"a": 1, "b": 2}, {"a": 4, "b": 5}]
    assert [(one["line"], one["row"], one["reason"]) for one in done.rejects] == [
        (6, 2, "too_few_fields"),
        (7, 3, "repeated_header"),
    ]
    with pytest.raises(InputError, match=r"has no header after the first 20 lines. Check --skip"):
        run(path, dialect=Dialect(skip=20))


@pytest.mark.parametrize(
    ("first", "delimiter"),
    [
        ("sep=;", ";"),
        ("SEP=\t", "\t"),
        ('"sep=|"', "|"),
        ("sep=;;;", ";"),
        ("sep=,", ","),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_first_line_may_name_the_delimiter(path: Path, first: str, delimiter: str, encoding: str) -> None:
    text = f"{first}\r\né{delimiter}b\r\n1,5{delimiter}2\r\n".replace("1,5", "x")
    dialect = Dialect(delimiter=":", encoding=codecs.lookup(encoding).name)
    assert run(path, text.encode(encoding), dialect=dialect).events == [{"e": "x", "b": 2}]
    # It is one of the lines to skip.
    text = f"{first}\r\nA title\r\né{delimiter}b\r\nx{delimiter}2\r\n"
    done = run(path, text.encode(encoding), dialect=replace(dialect, skip=2))
    assert done.events == [{"e": "x", "b": 2}]


def test_a_column_may_be_called_sep(path: Path) -> None:
    assert run(path, "sep=;x,b\n1,2\n").events == [{"sep_x": 1, "b": 2}]


class SilentPublisher(MemoryTopic):
    """Accepts events and acknowledges none."""

    trouble = "Connection refused"

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[EventBatch] = []

    def send(self, batch: EventBatch, keep_sending: Callable[[], bool]) -> None:
        self.sent.append(batch)

    def abandon(self) -> None:
        for batch in self.sent:
            batch.fail(range(batch.waiting), "it was given up", too_large=False, retryable=True)


def test_events_that_are_given_up_are_no_response(path: Path) -> None:
    troubles: list[str] = []
    with pytest.raises(UnavailableError, match=r"no acknowledgement for 0.3 s: Connection refused"):
        run(
            path,
            "a\n1\n2\n",
            publisher=SilentPublisher(),
            timeout_seconds=0.3,
            observe=lambda progress: troubles.append(progress.trouble),
        )
    first = troubles.index("Connection refused")
    assert set(troubles[first:]) == {"Connection refused"}


def test_a_refusal_for_its_size_counts_as_a_response() -> None:
    """Otherwise the acknowledgements that follow would not count as a response."""
    deliveries = Deliveries()
    publication = Publication.new(b"some.csv", "0" * 64, 1, BEGAN)
    rows = np.arange(1, 4)
    batch = EventBatch(publication, rows, rows * 0, ConcatColumn.of([b"1", b"2", b"3"]), None, last_row=3)
    deliveries.add(batch)
    answered = [deliveries.answered]
    batch.fail([0], "too large", too_large=True, retryable=False)
    answered.append(deliveries.answered)
    batch.acknowledge(1)
    answered.append(deliveries.answered)
    batch.fail([2], "gone", too_large=False, retryable=True)
    deliveries.settle()
    assert [*answered, deliveries.answered] == [0, 1, 2, 2]
