"""Column names of a CSV header, made safe for SQL or kept, and each a column of its own in the table."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from lakefeed_common.tables import MAX_NAME_BYTES, NOT_IN_NAMES, PARTITION_KEY, folded

# Small letters that Unicode does not decompose into an ASCII letter and marks.
_LETTERS = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "\u0131": "i",  # the Turkish i without a dot
    }
)
# Marks that choose a shape of a character and are seen nowhere else.
_VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_BETWEEN = re.compile(r"[ _]+")
# So much of a name is shown in a message.
_SHOWN = 60


def sql_name(name: str) -> str:
    """Lower-case letters and digits of any script and single `_`; never empty, never a digit first.

    Latin letters become ASCII. Those of other scripts stay, with their marks.

    >>> sql_name("Adj Close"), sql_name("Größe (m²)"), sql_name("2nd"), sql_name("植物名"), sql_name("%")
    ('adj_close', 'grosse_m2', '_2nd', '植物名', '_')
    """
    decomposed = unicodedata.normalize("NFKD", _VARIATION_SELECTORS.sub("", name)).lower()
    plain = unicodedata.normalize("NFC", "".join(_safe_characters(decomposed.translate(_LETTERS))))
    safe = _BETWEEN.sub("_", plain)
    # A leading underscore that the user wrote is kept; those that we made at the ends are not.
    safe = ("_" if name.startswith("_") else "") + safe.strip("_")
    return safe if safe.isidentifier() else "_" + safe


def _safe_characters(decomposed: str) -> Iterator[str]:
    """Letters and digits, marks of those that are not ASCII, and a space for each other character."""
    has_marks = False
    for character in decomposed:
        kind = unicodedata.category(character)[0]
        if kind == "M":
            # An accent is left out; a vowel sign of Devanagari or Thai is a part of the word.
            if has_marks:
                yield character
            continue
        # What may be a part of a name and is no letter, as the middle dot, only looks like one.
        is_safe = kind in "LN" and f"_{character}".isidentifier()
        has_marks = is_safe and not character.isascii()
        yield character if is_safe else " "


def event_names(
    header: Sequence[str],
    naming: Literal["sql", "as-is"],
    report: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """The keys of the events, in the header's order: each can be a column of its own in the table.

    Where the names of the header cannot all be kept, a column is renamed and none is lost: an empty name
    becomes `column_` and its position, one that a column before it has gets a number, as does that of the
    partition key, and one that is too long for the catalogue is cut. Names are the same when they differ only
    in case, as they are for Athena.

    Args:
        header: the names in the file.
        naming: `sql` makes names safe, `as-is` keeps what the catalogue takes.
        report: called with a sentence for each column that was renamed for such a reason.
    """
    wanted, reasons = [], []
    for position, name in enumerate(header, 1):
        usable = sql_name(name) if naming == "sql" else NOT_IN_NAMES.sub(" ", name)
        reason = "" if naming == "sql" or usable == name else "a column name cannot have control characters"
        if not usable.strip() or (usable == "_" and name.strip() != "_"):
            usable = f"column_{position}"
            reason = "no letter or digit is in its name" if name.strip() else "the header has no name for it"
        if len(usable.encode()) > MAX_NAME_BYTES:
            usable, reason = _cut(usable), f"a column name can have {MAX_NAME_BYTES} bytes in Athena"
        wanted.append(usable)
        reasons.append(reason)
    names = _distinct(wanted)
    holders = {PARTITION_KEY: "the partition key of each table has that name"}
    for index, (name, usable) in enumerate(zip(names, wanted, strict=True)):
        reason = reasons[index] if name == usable else holders[folded(usable)]
        holders.setdefault(folded(usable), f"column {index + 1} has that name in Athena")
        if reason:
            before = f"column {index + 1} ({_shown(header[index])})"
            report(f"{before} is called {_shown(name)} in the events: {reason}")
    return names


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number where a column before has the same or the partition key has it."""
    # A number never makes a name that another column has by itself.
    taken = {PARTITION_KEY, *map(folded, names)}
    seen = {PARTITION_KEY}
    numbers: dict[str, int] = {}
    distinct = []
    for name in names:
        key, unique = folded(name), name
        if key in seen:
            while folded(unique) in taken:
                numbers[key] = numbers.get(key, 1) + 1
                unique = _cut(name, suffix=f"_{numbers[key]}")
            taken.add(folded(unique))
        seen.add(key)
        distinct.append(unique)
    return distinct


def _cut(name: str, suffix: str = "") -> str:
    """The name with the suffix, cut so that both fit into a column name."""
    return name.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix


def _shown(name: str) -> str:
    # The number that tells it from others is at the end.
    return repr(name if len(name) <= _SHOWN else f"{name[: _SHOWN - 10]}…{name[-10:]}")
