"""What a restore finds in the bucket that a user must know, and what the user has accepted beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lakefeed_common.errors import InputError

_BRING_BACK = "Bring the object back, for example an earlier version of it, or restore without it:"


class Risk(StrEnum):
    """What ends a restore unless it is accepted with `--accept`."""

    HOLES = "holes"
    DAMAGED = "damaged"
    VALUES_ONLY = "values-only"
    RETENTION = "retention"


@dataclass
class Findings:
    """What was found, counted.

    Attributes:
        accepted: what does not end the restore.
        say: prints a line.
        holes: batches that are missing between others.
        damaged: objects that were left out.
        values_only: events whose object has no metadata: restored without key and headers, at midnight.
        omitted: events whose key or headers did not fit into their object's metadata.
        repeated: records that more than one object has; each was restored once.
    """

    accepted: frozenset[Risk] = frozenset()
    say: Callable[[str], None] = print
    holes: int = 0
    damaged: int = 0
    values_only: int = 0
    omitted: int = 0
    repeated: int = 0

    @property
    def incomplete(self) -> bool:
        """Whether something is not as it was."""
        return bool(self.holes or self.damaged or self.values_only or self.omitted)

    def hole(self, text: str) -> None:
        """A batch is missing.

        Raises:
            InputError: that was not accepted.
        """
        if Risk.HOLES not in self.accepted:
            raise InputError(f"{text}. {_BRING_BACK} --accept {Risk.HOLES}")
        self.holes += 1
        self.say(f"warning: {text}")

    def damage(self, text: str) -> None:
        """An object is damaged.

        Raises:
            InputError: that was not accepted.
        """
        if Risk.DAMAGED not in self.accepted:
            raise InputError(f"{text}. {_BRING_BACK} --accept {Risk.DAMAGED}")
        self.damaged += 1
        self.say(f"warning: left out: {text}")

    def no_metadata(self, key: str) -> None:
        """An event's object has no metadata: it holds the value alone.

        Raises:
            InputError: that was not accepted.
        """
        if Risk.VALUES_ONLY not in self.accepted:
            raise InputError(
                f"{key} has no metadata with key, headers and timestamp: it was stored by an older version, "
                "or copied without. To restore such events with their value alone, at midnight of their day: "
                f"--accept {Risk.VALUES_ONLY}"
            )
        self.values_only += 1

    def lines(self) -> list[str]:
        """A line for each kind of finding."""
        found = {
            "holes: records of missing batches are not restored": self.holes,
            "objects left out because they are damaged": self.damaged,
            "events restored with their value alone, at midnight of their day": self.values_only,
            "events restored without a key or headers that were too long for their object's metadata": (
                self.omitted
            ),
            "records that several objects have, each restored once": self.repeated,
        }
        return [f"{count:,} {text}" for text, count in found.items() if count]
