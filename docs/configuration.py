"""Generates docs/configuration.md from the settings classes."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from docs.markdown import NOTE, code, table
from lakefeed_common.settings import Settings, variable_name
from monitoring.catalogue import PARTS, ROOT

_HEAD = f"""{NOTE}

# Configuration

Every setting is an environment variable; a command-line option with the same name takes precedence. An
empty variable counts as unset. An invalid value ends the start with exit code 2 and a line that names the
variable, the value and what is allowed. If a variable is in a group and in the table of a service, the
latter describes its meaning for that service.

AWS credentials come from AWS's own chain (`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, `AWS_PROFILE`,
or the role of the machine or pod) and are not settings of Lakefeed. If there are none, or they cannot be
used, services wait, report the reason in `/readyz`, and use new ones without a restart. A profile that does
not exist or a shared config file that cannot be read is a wrong setting.

"""
_COLUMNS = ("Variable", "Value", "Default", "Unit", "Meaning")
_NAMES = {"Aws": "AWS"}
_WORDS = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text"}


def document() -> str:
    """The whole document: the shared groups, then each service."""
    services = {part: found for part in PARTS if (found := service_class(part)) is not None}
    shared: dict[type[Settings], list[str]] = {}
    for part, cls in services.items():
        for group in groups(cls):
            shared.setdefault(group, []).append(part)
    # A group that only one service has is part of that service.
    common = sorted(
        (group for group, parts in shared.items() if len(parts) > 1), key=lambda group: -len(shared[group])
    )
    text = _HEAD
    for group in common:
        text += f"## {_group_title(group)}\n\n{_first_line(group)} Read by: {', '.join(shared[group])}.\n\n"
        text += _settings([group])
    for part, cls in services.items():
        also = [f"[{_group_title(group)}]({_anchor(group)})" for group in common if group in groups(cls)]
        own = [*(group for group in groups(cls) if group not in common), cls]
        text += f"## The {part} service\n\n{_first_line(cls)} It also reads: {', '.join(also)}.\n\n"
        text += _settings(own)
    return text.rstrip("\n") + "\n"


def service_class(part: str) -> type[Settings] | None:
    """The most derived settings class of a component; None if it has none."""
    module = f"lakefeed_{part}.settings"
    if find_spec(module) is None:
        return None
    own = [
        found
        for found in vars(import_module(module)).values()
        if isinstance(found, type) and issubclass(found, Settings) and found.__module__ == module
    ]
    last = [cls for cls in own if not any(other is not cls and issubclass(other, cls) for other in own)]
    if len(last) != 1:
        raise TypeError(f"{module} must have one settings class that includes all others, but has {last}")
    return last[0]


def groups(cls: type[Settings]) -> list[type[Settings]]:
    """The groups that a service's class inherits, the most general first."""
    bases = [base for base in cls.__mro__[1:] if issubclass(base, Settings) and base is not Settings]
    return bases[::-1]


def _group_title(group: type[Settings]) -> str:
    name = group.__name__.removesuffix("Settings")
    return f"{_NAMES.get(name, name)} settings"


def _anchor(group: type[Settings]) -> str:
    return "#" + _group_title(group).lower().replace(" ", "-")


def _first_line(cls: type[Settings]) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _settings(classes: list[type[Settings]]) -> str:
    rows = {}
    for cls in classes:
        # Only fields that the class itself declares, including those with another default.
        for name in inspect.get_annotations(cls):
            if name in cls.model_fields:
                field = cls.model_fields[name]
                rows[name] = row(name, field)
    return table(_COLUMNS, rows.values()) + "\n"


def row(name: str, field: FieldInfo) -> tuple[str, ...]:
    """One setting as a row of the table."""
    extra = field.json_schema_extra
    unit = str(extra["unit"]) if isinstance(extra, dict) and "unit" in extra else ""
    allowed = _allowed(field)
    return code(variable_name(name, field)), allowed, _default(field), unit, field.description or ""


def _allowed(field: FieldInfo) -> str:
    annotation = _without_none(field.annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(code(str(value)) for value in get_args(annotation))
    if annotation is SecretStr:
        return "text, never shown"
    if annotation is Path:
        return "path"
    bounds = _bounds(field)
    return f"{_WORDS[annotation]}{bounds}"


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    (kind,) = (each for each in get_args(annotation) if each is not NoneType)
    return kind


def _bounds(field: FieldInfo) -> str:
    words = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}
    found = [
        f"{word} {value}"
        for name, word in words.items()
        for constraint in field.metadata
        if (value := getattr(constraint, name, None)) is not None
    ]
    pattern = next((p for each in field.metadata if (p := getattr(each, "pattern", None))), None)
    if pattern is not None:
        found.append(f"that matches {code(pattern)}")
    return "".join(f" {each}" for each in found)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, Path):
        return code(_portable(value))
    return code(f"{value:.15g}" if isinstance(value, float) else str(value)) or "empty"


def _portable(path: Path) -> str:
    """A path that is the same on every machine: relative to the repository or the home folder."""
    for base, prefix in ((ROOT, ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return prefix + path.relative_to(base).as_posix()
    return path.as_posix()
