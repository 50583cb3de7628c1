"""DuckDB, with the extensions that read Iceberg tables.

They come as packages of MiniStack's environment, so nothing is downloaded at run time. DuckDB loads an
extension only if its own project signed it for this very version.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb

from lakefeed_local.ministack.sql import literal
from lakefeed_local.ministack.values import athena_type, shown

# In the order in which they depend on each other.
_EXTENSIONS = ("avro", "httpfs", "iceberg")
_SETTINGS = {
    "TimeZone": "'UTC'",
    # Nothing is downloaded, whatever a statement names.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


@dataclass(frozen=True)
class Answer:
    """A result: the columns' names and Athena's types of them, and rows of text."""

    columns: list[str]
    types: list[str]
    rows: list[list[str | None]]


class Duck:
    """Runs statements, each in a connection of its own; safe in several threads.

    Args:
        endpoint: where S3 is, as host:port.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._lock = Lock()
        self._lake: Any = None

    def run(self, statement: str, owner: tuple[str, str] | None) -> Answer:
        """Run a statement.

        Args:
            statement: in DuckDB's SQL.
            owner: account and region of the Iceberg tables that it reads; None if it reads none.

        Raises:
            duckdb.Error: it failed.
        """
        connection = _connect() if owner is None else self._over_s3(*owner)
        try:
            result = connection.execute(statement)
            described = result.description or []
            return Answer(
                [str(column[0]) for column in described],
                [athena_type(str(column[1])) for column in described],
                [[shown(value) for value in row] for row in result.fetchall()],
            )
        finally:
            connection.close()

    def _over_s3(self, account: str, region: str) -> Any:
        """A connection that reads an account's objects over S3."""
        with self._lock:
            # Extensions take longer to load than a small query: once for all.
            if self._lake is None:
                self._lake = _with_extensions()
        connection = self._lake.cursor()
        for name, value in {
            "s3_endpoint": self._endpoint,
            "s3_region": region,
            # MiniStack takes the account from the key, and checks no signature.
            "s3_access_key_id": account,
            "s3_secret_access_key": "unchecked",
            "s3_url_style": "path",
            "s3_use_ssl": "false",
        }.items():
            connection.execute(f"SET SESSION {name} = {literal(value)}")
        return connection


def _connect() -> Any:
    connection = duckdb.connect(":memory:")
    for name, value in _SETTINGS.items():
        connection.execute(f"SET {name} = {value}")
    return connection


def _with_extensions() -> Any:
    connection = _connect()
    for name in _EXTENSIONS:
        connection.load_extension(str(_extension(name)))
    # An object may be deleted and another one stored under its key.
    connection.execute("SET enable_external_file_cache = false")
    return connection


def _extension(name: str) -> Path:
    """The file of an extension in its package.

    Raises:
        FileNotFoundError: the package is not installed, or for another version of DuckDB.
    """
    package = find_spec(f"duckdb_extension_{name}")
    for place in package.submodule_search_locations or [] if package else []:
        file = Path(place, "extensions", f"v{duckdb.__version__}", f"{name}.duckdb_extension")
        if file.exists():
            return file
    raise FileNotFoundError(f"the extension {name} of DuckDB {duckdb.__version__} is not installed")
