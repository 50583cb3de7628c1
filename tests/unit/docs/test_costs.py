"""The tables of docs/costs.md are calculated, from sizes of the sample data."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from docs import costs
from lakefeed_common.lake.lines import to_line
from lakefeed_common.lake.records import Partition, Record

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def events() -> list[dict[str, str | float]]:
    """The events of the sample, as the producer publishes them."""
    with (ROOT / "data" / "prices.csv").open(newline="") as file:
        return [
            {name: _number(text) if name not in ("Ticker", "Date") else text for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() and "." not in text else number


def records(events: list[dict[str, str | float]]) -> list[Record]:
    made = []
    for offset, event in enumerate(events):
        headers = {"source": "prices.csv", "publication": "0123456789abcdef" * 2, "row": str(offset + 2)}
        pairs = tuple((name, text.encode()) for name, text in headers.items())
        value = json.dumps(event, separators=(",", ":")).encode()
        made.append(Record(Partition("t", 0), offset, 1_790_000_000_000 + offset // 10, None, value, pairs))
    return made


def test_sizes_of_events_and_batches(events: list[dict[str, str | float]]) -> None:
    made = records(events)
    lines = [to_line(record, record.value or b"") for record in made]
    assert sum(len(record.value or b"") for record in made) / len(made) == pytest.approx(
        costs.EVENT_BYTES, rel=0.01
    )
    assert len(gzip.compress(b"".join(lines), 1)) / len(made) == pytest.approx(
        costs.BATCH_EVENT_BYTES, rel=0.05
    )


def test_sizes_in_parquet(events: list[dict[str, str | float]]) -> None:
    table = pa.Table.from_pylist(events)
    table = table.append_column("kafka_partition", pa.array([0] * len(events), pa.int32()))
    table = table.append_column("kafka_offset", pa.array(range(len(events)), pa.int64()))
    moments = [1_790_000_000_000 + offset // 10 for offset in range(len(events))]
    table = table.append_column("kafka_timestamp", pa.array(moments, pa.timestamp("ms")))
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    assert len(file.getvalue()) / len(events) == pytest.approx(costs.ICEBERG_EVENT_BYTES, rel=0.1)
    group = pq.ParquetFile(file).metadata.row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    sizes = {chunk.path_in_schema: chunk.total_compressed_size / len(events) for chunk in chunks}
    assert sizes["Ticker"] + sizes["Close"] == pytest.approx(costs.QUERY_EVENT_BYTES, rel=0.1)


def test_arithmetic() -> None:
    objects, batches = costs.objects(), costs.batches(10_000)
    # 1,000,000 times $5 / 1,000,000, and 100 times the same.
    assert objects.stored == pytest.approx(5.0)
    assert batches.stored == pytest.approx(0.0005)
    # Athena bills 10 MB at least: $0.00005.
    assert costs.iceberg(10_000, 300_000).scan == pytest.approx(0.00005)
    assert objects.scan == pytest.approx(136.1e6 / 1e12 * 5)
    assert objects.requests_of_a_query == pytest.approx(0.4 + 0.005)
    assert costs.events_per_batch(0.01) == 1
    assert costs.events_per_batch(1000) == 10_000
    assert costs.events_per_batch(1e6) == pytest.approx(56_527, rel=0.001)


@pytest.mark.parametrize("table", [costs.puts_by_rate(), costs.by_layout()], ids=["puts", "layouts"])
def test_the_document_has_the_calculated_tables(table: str) -> None:
    assert table in (ROOT / "docs" / "costs.md").read_text(), "run: python -m docs.costs"
