"""Derives the keys of the events from a CSV header, so that each is a distinct column in the table."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from lakefeed_common.tables import MAX_NAME_BYTES, NOT_IN_NAMES, PARTITION_KEY, folded

# Lower-case letters that Unicode does not decompose into an ASCII letter and marks.
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
# Marks that select the shape of a character and are invisible themselves.
_VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_BETWEEN = re.compile(r"[ _]+")
# How many characters of a name a message shows.
_SHOWN = 60


def sql_name(name: str) -> str:
    """Reduce a name to lower-case letters and digits of any script and single `_`, not starting with a digit.

    Latin letters become ASCII; letters of other scripts are kept, with their marks.

    >>> sql_name("Adj Close"), sql_name("Größe (m²)"), sql_name("2nd"), sql_name("植物名"), sql_name("%")
    ('adj_close', 'grosse_m2', '_2nd', '植物名', '_')
    """
    decomposed = unicodedata.normalize("NFKD", _VARIATION_SELECTORS.sub("", name)).lower()
    plain = unicodedata.normalize("NFC", "".join(_safe_characters(decomposed.translate(_LETTERS))))
    safe = _BETWEEN.sub("_", plain)
    # Keep a leading underscore of the header; drop those that were inserted at the ends.
    safe = ("_" if name.startswith("_") else "") + safe.strip("_")
    return safe if safe.isidentifier() else "_" + safe


def _safe_characters(decomposed: str) -> Iterator[str]:
    """Yield letters, digits and the marks of non-ASCII letters, and a space for each other character."""
    has_marks = False
    for character in decomposed:
        kind = unicodedata.category(character)[0]
        if kind == "M":
            # An accent is dropped; a vowel sign of Devanagari or Thai is part of the word.
            if has_marks:
                yield character
            continue
        # `isidentifier` alone also accepts characters that are not letters, such as the middle dot.
        is_safe = kind in "LN" and f"_{character}".isidentifier()
        has_marks = is_safe and not character.isascii()
        yield character if is_safe else " "


def event_names(
    header: Sequence[str],
    naming: Literal["sql", "as-is"],
    report: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """The keys of the events, in the header's order, each a distinct column in the table.

    A column whose name cannot be kept is renamed, so that no column is lost: an empty name becomes `column_`
    and its position, a name that an earlier column or the partition key has gets a number, and a name that is
    too long for the catalog is cut. Names that differ only in case are the same, as in Athena.

    Args:
        header: the names in the file.
        naming: `sql` makes names safe for SQL, `as-is` keeps what the catalog accepts.
        report: called with a sentence for each column that was renamed for one of these reasons.
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
    """Append a number to each name that an earlier column or the partition key has."""
    # A numbered name must not equal the original name of another column.
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
    """The name and the suffix, with the name cut so that both fit."""
    return name.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix


def _shown(name: str) -> str:
    # The number that distinguishes it from others is at the end.
    return repr(name if len(name) <= _SHOWN else f"{name[: _SHOWN - 10]}…{name[-10:]}")
