"""Command line options that set settings: their names, defaults and help come from the settings."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from io import StringIO
from typing import Annotated, Any, TypeAlias

import typer

from lakefeed_common.declared import declarations

Values: TypeAlias = Mapping[str, str | None]
"""The values of options by the name of the setting, as the user wrote them; None if not given."""

FILE_SETTINGS = (
    "topic",
    "kafka_bootstrap_servers",
    "rate",
    "key",
    "column_names",
    "schema_file",
    "delimiter",
    "quoting",
    "null",
    "encoding",
    "skip",
)
"""The settings that are options of every command that publishes files."""

_SPELLINGS = {
    "kafka_bootstrap_servers": ("--kafka-bootstrap-servers", "-b"),
    "schema_file": ("--schema",),
}
_METAVARS = {
    "topic": "NAME",
    "kafka_bootstrap_servers": "HOST:PORT",
    "rate": "N",
    "key": "COLUMN",
    "column_names": "sql|as-is",
    "schema_file": "FILE",
    "delimiter": "CHARACTER",
    "quoting": "standard|none",
    "null": "VALUE",
    "encoding": "NAME",
    "skip": "N",
    "state_folder": "FOLDER",
}
_REPEATABLE = {"null"}


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add options that set these settings to a command, which receives their values as `settings`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_options(**arguments: Any) -> None:
            values = {name: _joined(arguments.pop(name)) for name in names}
            command(**arguments, settings=values)

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [
            *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own if one.name != "settings"),
            *(_option(name) for name in names),
        ]
        # Typer reads both.
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_options

    return decorate


def _option(name: str) -> inspect.Parameter:
    declared = declarations("lakefeed_common.settings", "lakefeed_producer.settings")[name]
    variable = f"[LAKEFEED_{name.upper()}" + (f"; {declared.default}]" if declared.default else "]")
    option = typer.Option(
        *_SPELLINGS.get(name, ()),
        metavar=_METAVARS.get(name),
        help=f"{declared.description} {variable}".replace("`", ""),
    )
    kind: Any = list[str] if name in _REPEATABLE else str
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _joined(value: str | list[str] | None) -> str | None:
    """The value of an option; a repeated one as the setting has it, a line of CSV."""
    if not isinstance(value, list):
        return value
    line = StringIO()
    csv.writer(line, lineterminator="").writerow(filter(None, value))
    return line.getvalue() or None
