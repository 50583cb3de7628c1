"""The tools that draw the documents' pictures: a terminal's output, and the dashboard."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from docs import dashboard, terminal
from tests.helpers.http_server import serving


def text_of(svg: str) -> str:
    return " ".join(" ".join(ET.fromstring(svg).itertext()).replace("\xa0", " ").split())  # noqa: S314


def test_a_terminal_picture_has_the_command_and_its_last_state(tmp_path: Path) -> None:
    file = tmp_path / "x.svg"
    script = r"printf '\033[32mready\033[0m\n'; printf '\rrows 1'; printf '\rrows 2\n'; exit 3"
    assert terminal.main([str(file), "sh", "-c", script]) == 3
    svg = file.read_text()
    assert text_of(svg).endswith("ready rows 2")
    assert "rows 1" not in text_of(svg).partition("exit 3")[2]
    assert "font-face" not in svg


@pytest.fixture
def prometheus() -> Iterator[str]:
    """A server that returns one series for every query."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            assert "$" not in query["query"][0]
            start = float(query["start"][0])
            series = {
                "metric": {"reason": "<x>"},
                "values": [[start, "1"], [start + 60, "NaN"], [start + 90, "1500"]],
            }
            body = json.dumps({"data": {"result": [series]}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as address:
        yield address


def test_the_dashboard_is_drawn_from_a_prometheus(prometheus: str, tmp_path: Path) -> None:
    file = tmp_path / "x.svg"
    assert dashboard.main([prometheus, str(file)]) == 0
    text = text_of(file.read_text())
    for title in ("Rows read", "CSV → Kafka", "Delivery latency", "Kafka → S3", "S3 PUT latency"):
        assert title in text
    assert "1,500" in text
    assert "<x>" in text
    assert "Messages in" not in text
    assert dashboard.main([]) == 2


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.0123, "s", "12.3 ms"),
        (2, "s", "2 s"),
        (0.5, "percentunit", "50 %"),
        (35500, "eps", "35.5 kev/s"),
        (7, "ops", "7 /s"),
    ],
)
def test_values_are_short(value: float, unit: str, expected: str) -> None:
    assert dashboard.shown(value, unit) == expected
