"""The format of dead letters: what is damaged is detected."""

from __future__ import annotations

import orjson
import pytest

from lakefeed_common.errors import InputError
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.dead_letters.format import DeadLetter


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "zero-length"),
        (b"not json", "invalid literal"),
        (b"[]", "indices must be"),
        (b"null", "not subscriptable"),
        (b"{}", "topic is missing"),
        (b'{"topic":1,"partition":0}', "1 where str should be"),
    ],
)
def test_a_body_that_is_not_a_dead_letter_is_damaged(body: bytes, complaint: str) -> None:
    with pytest.raises(InputError, match=f"damaged: .*{complaint}"):
        DeadLetter.parse(body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("value", "%%%"),
        ("value", 5),
        ("key", "AAA"),
        ("headers", [["a"]]),
        ("headers", [[1, None]]),
        ("headers", None),
        ("partition", True),
        ("offset", "7"),
        ("reason", None),
    ],
)
def test_a_damaged_field_is_detected(field: str, value: object) -> None:
    fields = orjson.loads(DeadLetter(Record(Partition("t", 1), 2, 3, b"k", b"v"), "why").body())
    with pytest.raises(InputError, match="damaged: "):
        DeadLetter.parse(orjson.dumps({**fields, field: value}))
