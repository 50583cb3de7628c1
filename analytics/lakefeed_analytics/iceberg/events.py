"""Takes events apart into keys and values, with each value's own text: exact where a parser would round."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from lakefeed_common.errors import InputError

_STRING = r'"((?:[^"\\]|\\.)*+)"'
_KEY = re.compile(rf"\s*{_STRING}\s*:\s*")
_TEXT = re.compile(_STRING)
_PLAIN = re.compile(r"[^\s,{}\[\]\"]++")
_NESTED = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]')
_NEXT = re.compile(r"\s*([,}])")


class Field(NamedTuple):
    """A key of an event and its value.

    Attributes:
        key: its characters.
        text: of a string its characters, of another value its JSON as it was written.
        string: whether the value is a string.
    """

    key: str
    text: str
    string: bool


def fields(event: bytes) -> Iterator[Field]:
    """The keys and values of an event, which is a valid JSON object.

    A string with half a surrogate pair comes as its JSON and not as a string.

    Raises:
        InputError: it is not a JSON object.
    """
    text = event.decode()
    at = text.find("{") + 1
    if not at or text[:at].strip() != "{":
        raise InputError("damaged: an event that is not a JSON object")
    if text[at:].lstrip().startswith("}"):
        return
    while True:
        found = _KEY.match(text, at)
        if found is None:
            raise InputError("damaged: an event that is not a JSON object")
        key = _characters(found[1])
        field, at = _value(found[1] if key is None else key, text, found.end())
        yield field
        after = _NEXT.match(text, at)
        if after is None:
            raise InputError("damaged: an event that is not a JSON object")
        if after[1] == "}":
            return
        at = after.end()


def _value(key: str, text: str, at: int) -> tuple[Field, int]:
    """The value that starts at a position, and where it ends."""
    first = text[at : at + 1]
    if first == '"':
        found = _TEXT.match(text, at)
        if found is None:
            raise InputError("damaged: a string without an end")
        characters = _characters(found[1])
        string = characters is not None
        return Field(key, found[0] if characters is None else characters, string), found.end()
    if first and first in "[{":
        end = _end(text, at)
        return Field(key, text[at:end], string=False), end
    found = _PLAIN.match(text, at)
    if found is None:
        raise InputError("damaged: a key without a value")
    return Field(key, found[0], string=False), found.end()


def _characters(inner: str) -> str | None:
    """A string's characters; None if they are no text."""
    if "\\" not in inner:
        return inner
    characters: str = json.loads(f'"{inner}"', strict=False)
    return None if any("\ud800" <= each <= "\udfff" for each in characters) else characters


def _end(text: str, at: int) -> int:
    """Where the object or array that starts at a position ends, however deep it is."""
    depth = 0
    for found in _NESTED.finditer(text, at):
        if found[0] in "[{":
            depth += 1
        elif found[0] in "]}":
            depth -= 1
            if not depth:
                return found.end()
    raise InputError("damaged: an object or array without an end")
