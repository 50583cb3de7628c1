"""The progress bar shows file names and messages unformatted."""

from __future__ import annotations

import pytest

from lakefeed_producer.publish.bar import BarDisplay
from lakefeed_producer.publish.progress import Progress


def test_names_and_messages_are_not_formatted(capsys: pytest.CaptureFixture[str]) -> None:
    with BarDisplay() as bar:
        bar.show(Progress("[red]:bug:[/red].csv", rows=4, delivered=1, rejected=0, seconds=1.0))
        bar.say("line 3: 00:ab:12 [bold]x[/bold]\a")
    shown = capsys.readouterr().err
    assert "line 3: 00:ab:12 [bold]x[/bold]\\u0007" in shown
    assert "[red]:bug:[/red].csv" in shown
