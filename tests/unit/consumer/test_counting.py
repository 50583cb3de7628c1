"""Counted without locks, and read as the client library's own metrics would be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from lakefeed_consumer.counting import PlainCounter, PlainCounters, PlainHistogram
from lakefeed_consumer.metrics import SECONDS


def scraped(registry: CollectorRegistry) -> list[str]:
    """What a scrape reads; without the moment of birth, which ours do not tell."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@given(st.lists(st.sampled_from(SECONDS) | st.floats(0, 100), max_size=50))
def test_a_histogram_reads_as_the_librarys_does(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    plain = PlainHistogram("x_seconds", "What it is.", SECONDS, ours)
    real = Histogram("x_seconds", "What it is.", buckets=SECONDS, registry=theirs)
    for value in values:
        plain.observe(value)
        real.observe(value)
    assert scraped(ours) == scraped(theirs)


def test_counters_read_as_the_librarys_do() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one, by_label = (
        PlainCounter("a_total", "A.", ours),
        PlainCounters("b_total", "B.", "kind", ("x", "y"), ours),
    )
    real, real_by_label = (
        Counter("a_total", "A.", registry=theirs),
        Counter("b_total", "B.", ["kind"], registry=theirs),
    )
    one.value += 3
    by_label.values["y"] += 2
    real.inc(3)
    real_by_label.labels("x")
    real_by_label.labels("y").inc(2)
    assert scraped(ours) == scraped(theirs)
