"""Finds the series that a PromQL expression reads. Lexical: selectors are found, syntax is not validated."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass

_STRING = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\''
_TOKEN = re.compile(
    rf"""
    (?P<string> {_STRING} )
  | (?P<comment> \#[^\n]* )
  | (?P<duration> \[[^\]]*\] )
  | \b(?P<clause> by|without|on|ignoring|group_left|group_right )\s*\((?P<listed>[^)]*)\)
  | (?P<name> [a-zA-Z_:][\w:]* )\s*(?P<matchers> \{{(?:[^{{}}"']|{_STRING})*\}} )?
  | (?P<number> [\d.]+\w* )
    """,
    re.VERBOSE,
)
_WORDS = {"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "group_left", "group_right"}
# Follows the name of a function or an aggregation, never that of a series.
_CALL = re.compile(r"\s*(?:\(|(?:by|without)\s*\()")
_LABEL = re.compile(rf"(\w+)\s*(?:=~|!~|!=|=)\s*(?:{_STRING})")


@dataclass(frozen=True)
class Selector:
    """One vector selector, such as `up{job="kafka"}`."""

    name: str
    matchers: str

    @property
    def text(self) -> str:
        """The selector as an expression."""
        return self.name + self.matchers

    @property
    def labels(self) -> frozenset[str]:
        """The labels in its matchers."""
        return frozenset(_LABEL.findall(self.matchers))


def selectors(expression: str) -> list[Selector]:
    """The vector selectors of an expression, in order, without ranges."""
    return [Selector(match["name"], match["matchers"] or "") for match in _selectors(expression)]


def narrowed(expression: str, matcher: str, except_names: Container[str] = ()) -> str:
    """The expression with an additional matcher in each selector, except those of `except_names`."""
    text, end = "", 0
    for match in _selectors(expression):
        if match["name"] not in except_names:
            inside = (match["matchers"] or "")[1:-1].strip().rstrip(",")
            matchers = f"{inside}, {matcher}" if inside else matcher
            text += f"{expression[end : match.start('name')]}{match['name']}{{{matchers}}}"
            end = match.end("matchers") if match["matchers"] else match.end("name")
    return text + expression[end:]


def _selectors(expression: str) -> Iterator[re.Match[str]]:
    for match in _TOKEN.finditer(expression):
        name = match["name"]
        if name is None or name.lower() in _WORDS:
            continue
        if match["matchers"] is None and _CALL.match(expression, match.end("name")):
            continue
        yield match


def grouped_labels(expression: str) -> frozenset[str]:
    """The labels in clauses such as `by (…)` and `on (…)`."""
    return frozenset(
        label.strip()
        for match in _TOKEN.finditer(expression)
        if match["clause"]
        for label in match["listed"].split(",")
        if label.strip()
    )
