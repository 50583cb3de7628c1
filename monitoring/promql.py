"""Which series a PromQL expression reads. Lexical: enough to find selectors, not to judge syntax."""

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
# Behind the name of a function or of an aggregation, never behind that of a series.
_CALL = re.compile(r"\s*(?:\(|(?:by|without)\s*\()")
_LABEL = re.compile(rf"(\w+)\s*(?:=~|!~|!=|=)\s*(?:{_STRING})")


@dataclass(frozen=True)
class Selector:
    """One vector selector, such as `up{job="kafka"}`, and the labels that it matches by."""

    name: str
    matchers: str

    @property
    def text(self) -> str:
        """The selector as an expression of its own."""
        return self.name + self.matchers

    @property
    def labels(self) -> frozenset[str]:
        """The labels in its matchers."""
        return frozenset(_LABEL.findall(self.matchers))


def selectors(expression: str) -> list[Selector]:
    """The vector selectors of an expression, in order, ranges left out."""
    return [Selector(match["name"], match["matchers"] or "") for match in _selectors(expression)]


def narrowed(expression: str, matcher: str, except_names: Container[str] = ()) -> str:
    """The expression with one more matcher in each selector, but for those of the excepted series."""
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
    """The labels in `by (…)`, `on (…)` and their like."""
    return frozenset(
        label.strip()
        for match in _TOKEN.finditer(expression)
        if match["clause"]
        for label in match["listed"].split(",")
        if label.strip()
    )
