"""What a million events cost, by layout: the tables of docs/costs.md and the arithmetic behind them.

Prices are those of docs/costs.md. Sizes are measured on the sample data, and a test measures them again.
`python -m docs.costs` prints the tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from docs.markdown import table

PUT = 5.00 / 1e6
GET = 0.40 / 1e6
GB_MONTH = 0.023
SCANNED_TB = 5.00
SCANNED_LEAST_BYTES = 10e6
KEYS_PER_LIST = 1000
CRAWL = 2 * (10 / 60) * 0.44
"""Two DPUs for the ten minutes that are billed at least."""

EVENTS = 1_000_000
EVENT_BYTES = 136.1
"""An event of data/prices.csv: 300,997 bytes / 2,212."""
BATCH_EVENT_BYTES = 47.2
"""The same in a batch, with the producer's headers, by gzip's fastest level; before it, 296.8."""
ICEBERG_EVENT_BYTES = 37.4
"""The same in Parquet with zstd."""
QUERY_EVENT_BYTES = 4.4
"""What a query of two columns, such as the average of `close` by `ticker`, scans of it in Parquet."""
# At the consumer's defaults, LAKEFEED_BATCH_LINGER_SECONDS and LAKEFEED_BATCH_MAX_BYTES.
LINGER_SECONDS = 10.0
BATCH_MAX_EVENTS = 16 * 1024 * 1024 / 296.8
EVENTS_PER_SECOND = 1000.0
COMMIT_SECONDS = 300.0
"""`lakefeed-analytics compact --every 5m`."""


@dataclass(frozen=True)
class Layout:
    """How a million events are stored.

    Attributes:
        name: for the table.
        objects: how many objects they are.
        size: bytes of all objects.
        scanned: bytes that a query of two columns scans; Athena bills compressed bytes.
        stored: price of the requests that store them.
    """

    name: str
    objects: float
    size: float
    scanned: float
    stored: float

    @property
    def kept(self) -> float:
        """Storage for a month."""
        return self.size / 1e9 * GB_MONTH

    @property
    def requests_of_a_query(self) -> float:
        """S3's requests of a query that reads all of it."""
        return self.objects * GET + self.objects / KEYS_PER_LIST * PUT

    @property
    def scan(self) -> float:
        """What Athena bills for that query."""
        return max(self.scanned, SCANNED_LEAST_BYTES) / 1e12 * SCANNED_TB

    @property
    def query(self) -> float:
        """A query that reads all of it."""
        return self.requests_of_a_query + self.scan

    @property
    def crawl(self) -> float:
        """A crawl that reads every object."""
        return CRAWL + self.requests_of_a_query


def objects() -> Layout:
    """One object per event."""
    size = EVENTS * EVENT_BYTES
    return Layout("one object per event", EVENTS, size, size, EVENTS * PUT)


def batches(events_per_batch: float) -> Layout:
    """Batch objects."""
    size = EVENTS * BATCH_EVENT_BYTES
    count = EVENTS / events_per_batch
    return Layout(f"batches of {events_per_batch:,.0f}", count, size, size, count * PUT)


def iceberg(events_per_batch: float, events_per_commit: float) -> Layout:
    """An Iceberg table that is compacted from batches; the batches themselves cost extra.

    A commit reads its batches, and puts a data file, a manifest, a manifest list and a metadata file.
    """
    commits = EVENTS / events_per_commit
    return Layout(
        "Iceberg table",
        # A query reads the metadata file, the manifest list, and of each commit a manifest and a data file.
        objects=2 + 2 * commits,
        size=EVENTS * ICEBERG_EVENT_BYTES,
        scanned=EVENTS * QUERY_EVENT_BYTES,
        stored=4 * commits * PUT + EVENTS / events_per_batch * GET,
    )


def events_per_batch(rate: float) -> float:
    """Events of a batch, at a steady rate of events/s in one partition."""
    return max(1.0, min(rate * LINGER_SECONDS, BATCH_MAX_EVENTS))


def puts_by_rate() -> str:
    """What the puts cost in batches of one partition, by events/s."""
    rows = []
    for rate in (0.1, 1, 10, 100, 1_000, 10_000, 100_000):
        size = events_per_batch(rate)
        rows.append(
            [
                f"{rate:,g}",
                f"{size:,.0f}",
                f"{EVENTS / size:,.0f}",
                _dollars(EVENTS / size * PUT),
                _dollars(rate * 86_400 * 30 / size * PUT),
            ]
        )
    heads = ["events/s", "events per batch", "puts per million events", "$ per million events", "$ per month"]
    return table(heads, rows)


def by_layout() -> str:
    """The layouts side by side, at `EVENTS_PER_SECOND`."""
    size = events_per_batch(EVENTS_PER_SECOND)
    layouts = [objects(), batches(size), iceberg(size, EVENTS_PER_SECOND * COMMIT_SECONDS)]
    rows = [
        ["objects", *(f"{each.objects:,.0f}" for each in layouts)],
        ["bytes", *(f"{each.size / 1e6:,.0f} MB" for each in layouts)],
        ["requests to store them", *(_dollars(each.stored) for each in layouts)],
        ["storage for a month", *(_dollars(each.kept) for each in layouts)],
        ["**stored for a month**", *(f"**{_dollars(each.stored + each.kept)}**" for each in layouts)],
        ["S3 requests of a query over all", *(_dollars(each.requests_of_a_query) for each in layouts)],
        ["scanned by Athena", *(_dollars(each.scan) for each in layouts)],
        ["**a query over all**", *(f"**{_dollars(each.query)}**" for each in layouts)],
        ["a crawl over all", *(_dollars(each.crawl) for each in layouts[:2]), "none"],
    ]
    return table(["a million events, $", *(each.name for each in layouts)], rows)


def _dollars(amount: float) -> str:
    return f"{amount:.5f}" if amount < 0.01 else f"{amount:,.2f}"


if __name__ == "__main__":
    print(puts_by_rate(), by_layout(), sep="\n")
