"""Compacts the topics' Iceberg tables on Spark: plan and commits are those of `lakefeed-analytics compact`.

Spark's executors read the objects and write the data files; the driver lists objects, decides and commits.
Any number of compactions may run at the same time, on Spark or not. Settings are the same LAKEFEED_
variables, or arguments of the same names, since jobs of AWS Glue have no variables:
`spark-submit compact.py --LAKEFEED_BUCKET my-bucket`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lakefeed_analytics.iceberg import commands
from lakefeed_analytics.iceberg.accept import Accept
from lakefeed_analytics.iceberg.work import Run, Task
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common import console
from lakefeed_common.errors import ExitCode, SettingsError, UnavailableError
from lakefeed_common.settings import load, variable_name

if TYPE_CHECKING:
    from pyspark import SparkContext

_OURS = re.compile(r"^lakefeed_common\.errors\.\w+: (.+)$", re.MULTILINE)
_COMMANDS: Mapping[str, Callable[..., None]] = {"compact": commands.compact, "rebuild": commands.rebuild}


class Job(NamedTuple):
    """What the arguments say.

    Attributes:
        command: which of the commands to run.
        accept: what does not end it.
        variables: settings.
    """

    command: str
    accept: frozenset[Accept]
    variables: dict[str, str]


def main() -> int:
    """Run the job and return its exit code: 0 done, 1 failed, 2 wrong setting."""

    def command(**_: Any) -> int:
        try:
            job = given(sys.argv[1:])
        except SystemExit as end:
            # It has printed its help, or what is wrong; `console.run` takes an exit for a closed output.
            return int(end.code or 0)
        os.environ.update(job.variables)
        settings = load(CompactSettings)
        # Only here, so that help and wrong settings need no Java.
        from pyspark.sql import SparkSession

        with SparkSession.builder.appName(f"lakefeed-{job.command}").getOrCreate() as session:
            run = on_spark(session.sparkContext)
            _COMMANDS[job.command](settings, dry_run=False, run=run, accept=job.accept)
        return ExitCode.OK

    return console.run(command)


def given(arguments: Sequence[str]) -> Job:
    """What arguments say; those that Glue adds are ignored.

    Raises:
        SettingsError: there is no such setting, or it is a secret.
    """
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--command", choices=_COMMANDS, default="compact", help="what to do")
    parser.add_argument(
        "--accept",
        choices=[each.value for each in Accept],
        action="append",
        default=[],
        help="what must not end it, as of `lakefeed-analytics compact`",
    )
    for name, field in CompactSettings.model_fields.items():
        # A job's arguments are shown to everyone who may look at it.
        if "Secret" not in str(field.annotation):
            parser.add_argument(f"--{variable_name(name, field)}", metavar="VALUE", help=argparse.SUPPRESS)
    options, others = parser.parse_known_args(arguments)
    if wrong := [each for each in others if each.startswith("--LAKEFEED_")]:
        raise SettingsError(f"{', '.join(wrong)}: no such setting, or a secret, which has to be a variable")
    settings = vars(options)
    command, accept = settings.pop("command"), frozenset(map(Accept, settings.pop("accept")))
    return Job(command, accept, {name: value for name, value in settings.items() if value is not None})


def on_spark(context: SparkContext) -> Run:
    """Runs tasks on Spark's executors, which repeat those that fail."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    def run(function: Callable[[Task], Any], tasks: Sequence[Task]) -> Sequence[Any]:
        try:
            results: list[Any] = context.parallelize(tasks, len(tasks)).map(function).collect()
        except (Py4JError, PySparkException) as error:
            raise UnavailableError(f"running {len(tasks)} tasks on Spark: {reason(str(error))}") from error
        return results

    return run


def reason(text: str) -> str:
    """Why a job of Spark failed: the message of this project's error in it, or what Spark says first."""
    if ours := _OURS.findall(text):
        return str(ours[-1])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])


if __name__ == "__main__" and (code := main()):
    # Glue takes any SystemExit for a failure.
    sys.exit(code)
