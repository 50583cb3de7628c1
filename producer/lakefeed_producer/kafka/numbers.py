"""Columns of numbers as Kafka's record batches have them: as varints, and as decimal digits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lakefeed_producer.csv.byte_columns import ByteColumn, Numbers
from lakefeed_producer.csv.splitter import Positions

# The powers of ten that a 64-bit number can reach.
_POWERS = 10 ** np.arange(1, 19, dtype=np.int64)
# All groups of four digits, so that four digits take one division.
_FOUR_DIGITS = np.frombuffer(b"".join(b"%04d" % number for number in range(10_000)), "V4")


@lru_cache(maxsize=4096)
def varint(number: int) -> bytes:
    """One number as a varint; see `varints`."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def varints(numbers: Numbers) -> ByteColumn:
    """Numbers as varints. Kafka's are zigzag-encoded: callers double non-negative numbers."""
    width = max(1, -(-int(numbers.max()).bit_length() // 7))
    groups = np.empty((len(numbers), width), np.uint8)
    sizes = np.ones(len(numbers), np.int64)
    for place in range(width):
        left = numbers >> (7 * place)
        more = left > 0x7F
        groups[:, place] = (left & 0x7F) | (more.astype(np.uint8) << 7)
        sizes += more
    return ByteColumn(groups.reshape(-1), np.arange(len(numbers)) * width, sizes)


def digits(numbers: Positions) -> ByteColumn:
    """Positive numbers in decimal."""
    sizes = 1 + np.searchsorted(_POWERS, numbers, "right")
    groups = -(-int(sizes.max()) // 4)
    digits = np.empty((len(numbers), groups), "V4")
    left = numbers
    for group in reversed(range(groups)):
        above = left // 10_000
        digits[:, group] = _FOUR_DIGITS[left - 10_000 * above]
        left = above
    ends = 4 * groups * np.arange(1, len(numbers) + 1)
    return ByteColumn(digits.view(np.uint8).reshape(-1), ends - sizes, sizes)
