"""The plain parts of `spark/compact.py`; `make spark-test` runs it on Spark."""

from __future__ import annotations

import pytest

from lakefeed_analytics.iceberg.accept import Accept
from lakefeed_common.errors import SettingsError
from spark.compact import given, main, reason


def test_arguments_are_settings() -> None:
    arguments = ["--LAKEFEED_BUCKET", "lake", "--command", "rebuild", "--AWS_REGION=eu-central-1"]
    assert given(arguments) == (
        "rebuild",
        frozenset(),
        {"LAKEFEED_BUCKET": "lake", "AWS_REGION": "eu-central-1"},
    )
    assert given([]) == ("compact", frozenset(), {})


def test_arguments_say_what_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    assert given(["--accept", "holes", "--accept=source"]).accept == {Accept.HOLES, Accept.SOURCE}
    with pytest.raises(SystemExit) as end:
        given(["--accept", "everything"])
    assert end.value.code == 2
    assert "invalid choice: 'everything'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--accept", "everything"], 2),
        (["--command", "compress"], 2),
        (["--LAKEFEED_BUKET", "lake"], 2),
    ],
)
def test_the_exit_code_says_whether_the_arguments_are_wrong(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["compact.py", *arguments])
    assert main() == code


def test_arguments_that_glue_adds_are_ignored() -> None:
    assert given(["--JOB_NAME", "lake", "--LAKEFEED_TOPIC", "prices", "--TempDir", "s3://b/"]) == (
        "compact",
        frozenset(),
        {"LAKEFEED_TOPIC": "prices"},
    )


@pytest.mark.parametrize("name", ["--LAKEFEED_BUKET", "--LAKEFEED_KAFKA_SASL_PASSWORD", "--LAKEFEED_BUCK"])
def test_an_unknown_setting_or_a_secret_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        given([name, "x"])


def test_a_failed_job_is_explained_by_our_error_in_it() -> None:
    text = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 0.0 failed 4 times
Traceback (most recent call last):
  File "work.py", line 200, in write_files
lakefeed_common.errors.UnavailableError: reading s3://lake/batches/x: no response. Check AWS_ENDPOINT_URL
\tat org.apache.spark.api.python.BasePythonRunner"""
    assert reason(text) == "reading s3://lake/batches/x: no response. Check AWS_ENDPOINT_URL"


def test_a_failed_job_without_an_error_of_ours_is_explained_by_spark() -> None:
    text = "An error occurred.\n: org.apache.spark.SparkException: ExecutorLost\n\tat org.apache"
    assert reason(text) == "An error occurred. : org.apache.spark.SparkException: ExecutorLost"
