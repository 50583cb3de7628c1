"""Prints user data on a terminal: unchanged, but without control characters.

Values do not pass through libraries that format text (markup, emoji codes, wrapping).
"""

from __future__ import annotations

import io
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

# C0, DEL and C1 controls, line separators, and characters that change the text direction.
_STEERING = (*range(32), *range(127, 160), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
# Python's surrogates for bytes in file names that are not UTF-8; they cannot be encoded.
_BYTES = {number: f"\\x{number & 0xFF:02x}" for number in range(0xDC80, 0xDD00)}
_ESCAPES = {number: f"\\u{number:04x}" for number in (*_STEERING, *range(0xD800, 0xE000))}
_SHORT = _ESCAPES | _BYTES | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
# JSON has line breaks only between tokens, never in strings.
_IN_JSON = {number: escape for number, escape in _ESCAPES.items() if number != ord("\n")}
_IN_LINES = {number: escape for number, escape in _SHORT.items() if number != ord("\n")}

_LINES = ["━┏┳┓", "┃┃┃", "━┡╇┩", "│││", "─└┴┘"]
_ASCII_LINES = ["-+++", "|||", "-+++", "|||", "-+++"]


def printable(text: str) -> str:
    """The text with an escape, such as `\\xe9`, for each byte in a file name that is not UTF-8."""
    return text.translate(_BYTES)


def visible(text: str) -> str:
    """The text in one line, with escapes such as `\\u001b` for characters that would control a terminal."""
    return text.translate(_SHORT)


def message(text: str) -> str:
    """A message of one or more lines, escaped as in `visible` except for its line breaks."""
    return text.translate(_IN_LINES)


def visible_json(document: str) -> str:
    """The same JSON document, with characters escaped that would control a terminal."""
    return document.translate(_IN_JSON)


def lossless(stream: object, *, encoding: str | None = None) -> None:
    """Let a stream write characters that are not in its encoding as escapes."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding=encoding, errors="backslashreplace")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool] = ()) -> None:
    """Print a table to standard output: each value complete and in one line, however wide.

    `right` says for each column whether it is right-aligned.
    """
    lossless(sys.stdout)
    encoding = sys.stdout.encoding or "utf-8"

    def shown(text: str) -> str:
        return visible(text).encode(encoding, "backslashreplace").decode(encoding)

    lines = _LINES if shown("".join(_LINES)) == "".join(_LINES) else _ASCII_LINES
    body = [[shown(value) for value in row] for row in rows]
    for line in _table([shown(column) for column in columns], body, right, lines):
        sys.stdout.write(line + "\n")


def _table(
    head: Sequence[str], body: Sequence[Sequence[str]], right: Sequence[bool], lines: Sequence[str]
) -> Iterator[str]:
    widths = [max(map(_width, column)) for column in zip(head, *body, strict=True)]
    aligned = [*right, *[False] * (len(head) - len(right))]

    def rule(glyphs: str) -> str:
        bar, left, middle, end = glyphs[0], glyphs[1], glyphs[2], glyphs[3]
        return left + middle.join(bar * (width + 2) for width in widths) + end

    def line(cells: Sequence[str], glyphs: str) -> str:
        padded = (
            _pad(cell, width, right=right) for cell, width, right in zip(cells, widths, aligned, strict=True)
        )
        return f"{glyphs[0]} {f' {glyphs[1]} '.join(padded)} {glyphs[2]}"

    yield rule(lines[0])
    yield line(head, lines[1])
    yield rule(lines[2])
    for row in body:
        yield line(row, lines[3])
    yield rule(lines[4])


def _pad(text: str, width: int, *, right: bool) -> str:
    room = " " * (width - _width(text))
    return room + text if right else text + room


def _width(text: str) -> int:
    """The width of a text in terminal cells; used only for alignment."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
