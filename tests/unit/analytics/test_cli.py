"""Wrong usage and wrong settings end with 2 and one clear line, before AWS is asked anything."""

from __future__ import annotations

import io
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakefeed_analytics import cli
from tests.helpers.commands import signals_and_logging_as_before


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["lakefeed-analytics", *arguments])
    return cli.main()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with signals_and_logging_as_before():
        yield


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens on port 9: a call would fail with 1, not 2.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["query"],
        ["query", "SELECT 1", "--name", "volatility"],
        ["query", "SELECT 1", "--table", "x"],
        ["query", "SELECT 1", "--format", "xml"],
        ["query", "SELECT 1", "--limit", "-1"],
        ["tables", "--rows", "5"],
        ["tables", "x", "--rows", "5", "--partitions"],
        ["compact", "--every", "5"],
        ["compact", "--every", "0s"],
        ["compact", "--every", "5m", "--dry-run"],
        ["compact", "--every", "5m", "--accept", "holes"],
        ["compact", "--accept", "everything"],
    ],
    ids=" ".join,
)
def test_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "crawl", "tables", "ensure"])
def test_wrong_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("LAKEFEED_CRAWL_POLL_SECONDS", "soon")
    assert run(monkeypatch, command) == 2
    assert "LAKEFEED_CRAWL_POLL_SECONDS='soon'" in capsys.readouterr().err


def test_serve_reports_a_port_in_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("LAKEFEED_HTTP_PORT", str(port))
        assert run(monkeypatch, "serve") == 2
    assert f"LAKEFEED_HTTP_PORT={port}" in capsys.readouterr().err


def test_a_profile_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nope")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    assert run(monkeypatch, "tables") == 2
    assert "AWS_PROFILE=nope: there is no such profile" in capsys.readouterr().err


def test_a_writing_statement_fails_before_aws_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "query", "DROP TABLE x") == 1
    assert "only read-only statements" in capsys.readouterr().err


def program(*arguments: str, stdout: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run `lakefeed-analytics queries` in a shell, as its output shows."""
    words = shlex.join([sys.executable, "-m", "lakefeed_analytics", "queries", *arguments])
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{words} {stdout}"],
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )


# CSV and JSON are written alike, and a closed output is replaced before anything is.
@pytest.mark.parametrize(("form", "stdout"), [("table", "| true"), ("csv", "| true"), ("table", ">&- 2>&-")])
def test_closed_output_is_not_an_error(form: str, stdout: str) -> None:
    done = program("--format", form, stdout=stdout)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
@pytest.mark.parametrize("form", ["table", "csv"])
def test_output_that_cannot_be_written(form: str) -> None:
    done = program("--format", form, stdout="> /dev/full")
    assert done.returncode == 1
    assert done.stderr == b"error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("form", ["table", "json"])
def test_output_in_a_locale_without_unicode(form: str, tmp_path: Path) -> None:
    (tmp_path / "x.sql").write_text('-- Caf\u00e9.\nSELECT 1 FROM "${table}"\n', encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = program("--format", form, stdout="", LAKEFEED_QUERIES_FOLDER=str(tmp_path), **plain)
    assert done.returncode == 0, done.stderr
    assert ("Caf\\xe9" if form == "table" else "Caf\u00e9") in done.stdout.decode()


def test_an_unknown_name_lists_the_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "query", "--name", "nope") == 1
    assert "volatility" in capsys.readouterr().err


def test_the_named_queries_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "queries", "--format", "csv") == 0
    assert "volatility,Volatility of each company," in capsys.readouterr().out


def test_standard_input_that_is_not_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"SELECT '\xff'")))
    assert run(monkeypatch, "query", "-") == 1
    assert "not UTF-8, at byte 8" in capsys.readouterr().err
