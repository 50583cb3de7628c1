from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_common.errors import ExitCode
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.dead_letters.limit import DeadLetterLimit, DeadLetterLimitError

DEAD = "not JSON"


class Clock:
    """Seconds that a test moves on."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(offset: int = 0) -> Record:
    return Record(Partition("prices", 3), offset, 0, None, b"no")


def counted(limit: DeadLetterLimit, reasons: Sequence[str | None]) -> int | None:
    """Which of these exceeds the limit, None when none does."""
    for number, reason in enumerate(reasons):
        try:
            limit.count(record(number), reason)
        except DeadLetterLimitError:
            return number
    return None


def test_each_dead_letter_beyond_the_number_exceeds_the_limit() -> None:
    limit = DeadLetterLimit(100, 0.1, 600, Clock())
    assert counted(limit, [DEAD] * 200) == 100
    with pytest.raises(DeadLetterLimitError):
        limit.count(record(), DEAD)
    limit.count(record(), None)


def test_a_small_share_of_dead_letters_does_not_stop() -> None:
    assert counted(DeadLetterLimit(100, 0.1, 600, Clock()), ([None] * 10 + [DEAD]) * 1000) is None
    assert counted(DeadLetterLimit(100, 0.1, 600, Clock()), ([None] * 8 + [DEAD]) * 1000) == 101 * 9 - 1


def test_a_few_dead_letters_in_a_slow_topic_do_not_stop() -> None:
    clock = Clock()
    limit = DeadLetterLimit(100, 0.1, 600, clock)
    for _ in range(2000):
        clock.now += 7  # 86 within the window, and all of them bad
        limit.count(record(), DEAD)


def test_events_older_than_the_window_do_not_count() -> None:
    clock = Clock()
    limit = DeadLetterLimit(10, 0, 600, clock)
    assert counted(limit, [DEAD] * 10) is None
    clock.now += 599
    assert counted(limit, [None] * 10) is None
    clock.now += 12
    assert counted(limit, [DEAD] * 20) == 10


def test_a_share_of_one_disables_the_limit_and_of_zero_leaves_only_the_number() -> None:
    assert counted(DeadLetterLimit(0, 1, 600, Clock()), [DEAD] * 10_000) is None
    assert counted(DeadLetterLimit(5, 0, 600, Clock()), ([None] * 999 + [DEAD]) * 6) == 5999


def test_the_message_has_the_cause_the_position_and_the_fix() -> None:
    limit = DeadLetterLimit(2, 0.25, 60, Clock())
    assert counted(limit, [None, DEAD, DEAD]) is None
    with pytest.raises(DeadLetterLimitError) as caught:
        limit.count(record(3), DEAD)
    assert str(caught.value) == (
        "stopped because topic prices is broken: 3 of 4 events read within 60 s are dead letters, for "
        "example partition 3, offset 3: not JSON. What was not stored will be read again. See "
        "`lakefeed-consumer dead-letters list --topic prices` and fix the producer, or raise "
        "LAKEFEED_DEAD_LETTER_LIMIT=2 or "
        "LAKEFEED_DEAD_LETTER_LIMIT_SHARE=0.25; the consumer stops only when both are exceeded."
    )
    assert caught.value.exit_code == ExitCode.FAILED


@given(
    st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=300),
    st.integers(0, 20),
    st.floats(0, 1),
)
def test_the_limit_agrees_with_a_plain_count(
    events: list[tuple[float, bool]], number: int, share: float
) -> None:
    """Against a plain count; times are whole slots, so both forget at the same moment."""
    clock = Clock()
    limit = DeadLetterLimit(number, share, 60, clock)
    seen: list[tuple[float, bool]] = []
    for wait, dead in events:
        clock.now += round(wait) * 1.5
        seen = [(when, was) for when, was in [*seen, (clock.now, dead)] if clock.now - when <= 60]
        bad = sum(was for _, was in seen)
        too_many = dead and bad > number and bad > share * len(seen)
        assert (counted(limit, [DEAD if dead else None]) == 0) == too_many
        if too_many:
            return
