"""How much may be fetched before the agent takes it."""

from __future__ import annotations

import asyncio

import pytest

from lakefeed_consumer.faust_driver.backlog import Backlog


@pytest.mark.parametrize(("records", "size", "full"), [(10, 100, False), (11, 1, True), (1, 101, True)])
def test_a_backlog_is_full_beyond_either_limit(records: int, size: int, full: bool) -> None:
    backlog = Backlog(10, 100)
    backlog.add(records, size)
    assert backlog.full is full
    backlog.take(records, size)
    assert not backlog.full


def test_records_taken_after_the_backlog_was_cleared_do_not_count() -> None:
    backlog = Backlog(10, 100)
    backlog.add(5, 50)
    backlog.clear()
    backlog.take(5, 50)
    backlog.add(11, 11)
    assert backlog.full, "not less than nothing was in it before"


@pytest.mark.parametrize("end", ["take", "clear"])
def test_a_wait_ends_when_there_is_room(end: str) -> None:
    async def scenario() -> None:
        backlog = Backlog(10, 100)
        backlog.add(20, 20)
        waiting = asyncio.create_task(backlog.wait(60))
        await asyncio.sleep(0)
        assert not waiting.done()
        if end == "take":
            backlog.take(20, 20)
        else:
            backlog.clear()
        await asyncio.wait_for(waiting, 10)
        assert not backlog.full

    asyncio.run(scenario())


def test_a_wait_times_out_if_nothing_is_taken() -> None:
    async def scenario() -> None:
        backlog = Backlog(10, 100)
        backlog.add(20, 20)
        backlog.take(1, 1)
        await asyncio.wait_for(backlog.wait(0.01), 10)
        assert backlog.full

    asyncio.run(scenario())
