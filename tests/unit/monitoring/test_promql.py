from __future__ import annotations

import pytest

from monitoring.promql import Selector, grouped_labels, selectors


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("up", ["up"]),
        ('up{job=~"a|b"} == 0', ['up{job=~"a|b"}']),
        ("sum(rate(a_total[5m]))", ["a_total"]),
        ("sum by (a, b) (rate(x:y:z{c!='}'}[$__rate_interval]))", ["x:y:z{c!='}'}"]),
        ('a and on (job) b unless c or absent(d{e="1"})', ["a", "b", "c", 'd{e="1"}']),
        ("60 * a > bool 1e3 and deriv(b[15m] offset 1m) > Inf", ["a", "b"]),
        ("histogram_quantile(0.99, sum by (le) (rate(h_bucket[1m])))", ["h_bucket"]),
        ("count(a) by (b) # not c", ["a"]),
        ("sum without(x) (a) or vector(0)", ["a"]),
        ('label_replace(a, "to", "$1", "from", "(.*) b{}")', ["a"]),
    ],
)
def test_selectors(expression: str, found: list[str]) -> None:
    assert [selector.text for selector in selectors(expression)] == found


def test_labels_of_matchers_and_groupings() -> None:
    assert Selector("a", '{b="x, c=y", d!~"z"}').labels == {"b", "d"}
    assert grouped_labels("sum by (a, b) (c) / on (d) group_left () e") == {"a", "b", "d"}
