"""What an error's body says: XML of S3 and its likes, JSON, or the page of a proxy."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass

from lakefeed_common.text import visible

_LONGEST = 300
# Of an answer, which can be from any server.
_LONGEST_BODY = 10_000
_TAG = re.compile(r"<(?:!--.*?--|[^>]*)>", re.DOTALL)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title\s*>", re.DOTALL | re.IGNORECASE)
_UNSEEN = re.compile(r"<(script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_CODE = re.compile(r"[\w.-]+")
_REGION = re.compile(r"[a-z0-9-]+")
# <Endpoint>bucket.s3-eu-west-1.amazonaws.com</Endpoint>
_ENDPOINT = re.compile(r"\bs3[.-](?:dualstack\.)?([a-z]{2,4}(?:-[a-z]+)+-\d+)\.amazonaws\.")


@dataclass(frozen=True)
class Answer:
    """An error in the words of the server.

    Attributes:
        code: S3's code; empty if there is none.
        message: in one line, shortened, without control characters.
        region: the region that the answer names.
    """

    code: str = ""
    message: str = ""
    region: str = ""


def parse(body: str) -> Answer:
    """Code, message and region of a body in any of the formats."""
    body = body[:_LONGEST_BODY].strip()
    if body.startswith("{"):
        return _of_json(body)
    code, message = _element("Code", body), _element("Message", body)
    if not code and not message:
        return Answer(message=beginning(body))
    return Answer(code if _CODE.fullmatch(code) else "", _one_line(message), region(body))


def region(body: str) -> str:
    """The bucket's region that an error in XML names, itself or in an endpoint; empty if it names none."""
    body = body[:_LONGEST_BODY]
    named = _element("Region", body)
    if _REGION.fullmatch(named):
        return named
    endpoint = _ENDPOINT.search(_element("Endpoint", body))
    return endpoint[1] if endpoint else ""


def beginning(body: str) -> str:
    """The title of a page, or the beginning of its text."""
    body = body[:_LONGEST_BODY]
    title = _TITLE.search(body)
    return _one_line(_text(title[1] if title else _UNSEEN.sub(" ", body)))


def _of_json(body: str) -> Answer:
    try:
        found = json.loads(body)
    except ValueError:
        return Answer(message=_one_line(body))
    code, message = (
        next((value for name in names if isinstance(value := found.get(name), str)), "")
        for names in (("code", "Code", "__type"), ("message", "Message"))
    )
    code = code.rpartition("#")[2]
    if not message:
        return Answer(message=_one_line(body))
    return Answer(code if _CODE.fullmatch(code) else "", _one_line(message))


def _element(name: str, body: str) -> str:
    found = re.search(rf"<(?:[\w-]+:)?{name}(?:\s[^>]*)?>(.*?)</(?:[\w-]+:)?{name}\s*>", body, re.DOTALL)
    return _text(found[1]) if found else ""


def _text(markup: str) -> str:
    plain = _CDATA.sub(lambda found: html.escape(found[1]), markup)
    return html.unescape(_TAG.sub(" ", plain)).strip()


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))[:_LONGEST]
