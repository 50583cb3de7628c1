"""Column names of a CSV header, made safe for SQL or kept."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from lakefeed_common.errors import InputError

# Letters that Unicode does not decompose into an ASCII letter and marks.
_LETTERS = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "Æ": "ae",
        "œ": "oe",
        "Œ": "oe",
        "ø": "o",
        "Ø": "o",
        "ł": "l",
        "Ł": "l",
        "đ": "d",
        "Đ": "d",
        "ð": "d",
        "Ð": "d",
        "þ": "th",
        "Þ": "th",
        "\u0131": "i",  # the Turkish i without a dot
    }
)


def sql_name(name: str) -> str:
    """Lower-case ASCII letters, digits and single `_`; never empty, never a digit first.

    >>> sql_name("Adj Close"), sql_name("Größe (m²)"), sql_name("2nd"), sql_name("%")
    ('adj_close', 'grosse_m2', '_2nd', '_')
    """
    plain = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    safe = re.sub(r"[^a-z0-9]+", "_", plain.lower())
    # A leading underscore that the user wrote is kept; those that we made at the ends are not.
    safe = ("_" if name.startswith("_") else "") + safe.strip("_")
    if not safe or safe[0].isdigit():
        safe = "_" + safe
    return safe


def event_names(header: Sequence[str], naming: Literal["sql", "as-is"]) -> list[str]:
    """The keys of the events, in the header's order.

    Raises:
        InputError: two columns would have the same name, or an `as-is` name is empty.
    """
    names = [sql_name(name) for name in header] if naming == "sql" else list(header)
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if not name:
            raise InputError(
                f"column {index + 1} has no name. Give it one in the header, "
                "or let names be made with --column-names sql"
            )
        if name in seen:
            raise InputError(_collision(header, names, seen[name], index, naming))
        seen[name] = index
    return names


def _collision(header: Sequence[str], names: Sequence[str], first: int, second: int, naming: str) -> str:
    both = f"columns {first + 1} ({header[first]!r}) and {second + 1} ({header[second]!r})"
    if not header[first] and not header[second]:
        return f"columns {first + 1} and {second + 1} have no name. Give them names in the header"
    if header[first] == header[second]:
        return f"{both} have the same name. Rename one of them in the header"
    hint = ", or keep the names with --column-names as-is" if naming == "sql" else ""
    return f"{both} would both be called {names[second]!r}. Rename one of them in the header{hint}"
