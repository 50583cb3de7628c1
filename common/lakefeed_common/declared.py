"""Reads how settings are declared without importing them: a command's help must not load pydantic.

`--help` and a usage error take a fraction of the time that loading a settings class does. The declarations
are parsed from the source of the modules, so that a description and a default are written only once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Declaration:
    """One setting, as it is declared by a call of `lakefeed_common.settings.setting`.

    Attributes:
        name: of the field.
        default: as a user would write it; empty if there is none.
        description: of the field.
    """

    name: str
    default: str
    description: str


@lru_cache
def declarations(*modules: str) -> dict[str, Declaration]:
    """The settings that modules declare, by the field's name; later modules take precedence."""
    return {found.name: found for module in modules for found in _declarations(module)}


def _declarations(module: str) -> Iterator[Declaration]:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    for node in ast.walk(ast.parse(Path(spec.origin).read_text("utf-8"))):
        match node:
            case ast.AnnAssign(
                target=ast.Name(id=name),
                value=ast.Call(func=ast.Name(id="setting"), args=[default, description, *_]),
            ):
                yield Declaration(name, _shown(default), ast.literal_eval(description))


def _shown(default: ast.expr) -> str:
    match default:
        case ast.Constant(value=None):
            return ""
        case ast.Constant(value=value):
            return str(value)
        case ast.Call(args=[ast.Constant(value=value)]):  # Path("…")
            return str(value)
        case _:
            return ast.unparse(default)
