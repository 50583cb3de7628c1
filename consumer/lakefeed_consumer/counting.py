"""Metrics that only the event loop updates: without a lock, counting costs almost nothing.

Another thread reads them at each scrape. The client library's own metrics take a lock and check their
arguments at each update, which for an event's five counts costs more than everything else done with it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString


class _Plain:
    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self._description = name, documentation
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The metrics for a scrape."""
        raise NotImplementedError

    def describe(self) -> Iterable[Metric]:
        """The metrics that are registered."""
        return self.collect()


class PlainCounter(_Plain):
    """A counter; add to `value`."""

    value = 0

    def collect(self) -> Iterable[Metric]:
        """See `_Plain.collect`."""
        return [CounterMetricFamily(*self._description, value=self.value)]


class PlainCounters(_Plain):
    """A counter for each value of a label; add to `values[label]`."""

    def __init__(
        self, name: str, documentation: str, label: str, values: Iterable[str], registry: CollectorRegistry
    ) -> None:
        self._label = label
        self.values = dict.fromkeys(values, 0)
        super().__init__(name, documentation, registry)

    def collect(self) -> Iterable[Metric]:
        """See `_Plain.collect`."""
        family = CounterMetricFamily(*self._description, labels=[self._label])
        for label, value in self.values.items():
            family.add_metric([label], value)
        return [family]


class PlainGauge(_Plain):
    """A gauge; set `value`."""

    value = 0.0

    def collect(self) -> Iterable[Metric]:
        """See `_Plain.collect`."""
        return [GaugeMetricFamily(*self._description, value=self.value)]


class PlainHistogram(_Plain):
    """A histogram; `buckets` are upper bounds in rising order, without the infinite one."""

    def __init__(
        self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._bounds = (*map(float, buckets), inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        super().__init__(name, documentation, registry)

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value in the first bucket whose bound is not below it."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def collect(self) -> Iterable[Metric]:
        """See `_Plain.collect`."""
        buckets = list(zip(map(floatToGoString, self._bounds), accumulate(self._counts), strict=True))
        return [HistogramMetricFamily(*self._description, buckets=buckets, sum_value=self._sum)]
