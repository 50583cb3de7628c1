"""What a user accepts with `--accept`: without it, a compaction ends rather than leave something out."""

from __future__ import annotations

from enum import StrEnum


class Accept(StrEnum):
    """What does not end a compaction.

    Attributes:
        HOLES: records below the committed offset are in no object; the table continues behind them.
        SOURCE: the objects are in another bucket or prefix than those that the table was made of.
    """

    HOLES = "holes"
    SOURCE = "source"
