"""A fault of the chaos suite lasts until it has met a request."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

from tests.chaos.faults import inflict
from tests.helpers.s3_proxy import Faults, S3Proxy


class ScriptedProxy:
    """Meets a request when it has been asked for its counts often enough."""

    def __init__(self, meets_at: int) -> None:
        self._meets_at = meets_at
        self.asked = 0
        self.faults: list[Faults] = []

    def set(self, faults: Faults) -> None:
        self.faults.append(faults)

    def counts(self) -> Counter[str]:
        self.asked += 1
        return Counter(reset=int(self.asked >= self._meets_at))


def test_a_fault_ends_once_it_has_met_a_request() -> None:
    proxy: Any = ScriptedProxy(3)
    asyncio.run(inflict(cast("S3Proxy", proxy), Faults({"reset": 1.0}, 8), 0))
    assert proxy.asked == 3
    # Answers that are late already stay so.
    assert proxy.faults == [Faults({"reset": 1.0}, 8), Faults({}, 8)]


def test_an_outage_lasts_its_time_as_it_meets_no_request() -> None:
    proxy: Any = ScriptedProxy(1000)
    asyncio.run(inflict(cast("S3Proxy", proxy), Faults({"outage": 1.0}, 8), 0))
    assert proxy.asked <= 2
    assert proxy.faults[-1].shares == {}
