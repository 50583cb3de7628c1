"""Every setting of the producer."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from lakefeed_common.settings import KafkaSettings, ServiceSettings, setting

_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


class ProducerSettings(ServiceSettings, KafkaSettings):
    """How CSV files are read, and how their rows are delivered."""

    http_port: int = setting(8001, "Port of metrics and health; 0 picks a free one.", ge=0, le=65535)
    delimiter: str = setting(
        ",",
        "Field delimiter: one ASCII character, or `tab`, `semicolon`, `pipe`, `space`. "
        "A first line such as `sep=;` takes precedence.",
    )
    quoting: Literal["standard", "none"] = setting(
        "standard",
        "`none` treats quotes as ordinary characters, as in many TSV files; a row is a line then.",
    )
    encoding: str = setting("utf-8", "Text encoding of the CSV files, as Python names it.")
    skip: int = setting(
        0,
        "Lines to skip before the header, including empty ones. A first line such as `sep=;`, which "
        "sets the delimiter for Excel, is always applied and skipped.",
        ge=0,
    )
    column_names: Literal["sql", "as-is"] = setting(
        "sql", "`sql` makes column names safe for SQL (`Adj Close` becomes `adj_close`), `as-is` keeps them."
    )
    null: str | None = setting(
        None,
        "A value that is null in every column, such as `-`; several as a line of CSV (`-,?`), or by "
        "repeating the option. An empty field is always null; `NA`, `null` and others that pandas recognizes "
        "are null in columns of numbers or booleans.",
    )
    key: str | None = setting(None, "Column whose value becomes the record key; no key by default.")
    schema_file: Path | None = setting(
        None, 'JSON file with column types, such as `{"price": "number"}`; types are inferred by default.'
    )
    rate: float | None = setting(None, "Maximum events per second; unlimited by default.", unit="1/s", gt=0)
    max_row_bytes: int = setting(
        4 << 20,
        "A CSV row that is longer, or an unclosed quote after this many bytes, is rejected.",
        unit="B",
        ge=1024,
    )
    topic_partitions: int = setting(1, "Partitions of the topic if it is created.", ge=1, le=10_000)
    topic_replicas: int = setting(
        1, "Replicas of each partition of the topic if it is created.", ge=1, le=100
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = setting(
        "lz4", "Compression of record batches."
    )
    delivery_timeout_seconds: float = setting(
        120.0, "A file fails when the broker acknowledges no record for this long.", unit="s", ge=1
    )
    state_folder: Path = setting(
        Path("lakefeed-state"),
        "Folder in which `watch` records what it has published, and keeps rejected rows.",
    )
    watch_settle_seconds: float = setting(
        2.0,
        "A file counts as complete when it has not changed for this long, or for 15 times as long if it ends "
        "in the middle of a line, and no program on this computer has it open for writing.",
        unit="s",
        ge=0,
    )
    watch_poll_seconds: float = setting(1.0, "Interval between two scans of the folder.", unit="s", gt=0)

    @property
    def null_texts(self) -> tuple[str, ...]:
        """The values that are null in every column."""
        return tuple(next(csv.reader([self.null]))) if self.null else ()

    @field_validator("null")
    @classmethod
    def _null_is_a_line_of_csv(cls, value: str | None) -> str | None:
        try:
            rows = list(csv.reader([value or ""], strict=True))
        except csv.Error as error:
            raise ValueError(f'it is not a line of CSV ({error}); a quote is written as """"') from None
        if len(rows) > 1:
            raise ValueError("it is not a single line of CSV")
        return value

    @field_validator("delimiter")
    @classmethod
    def _delimiter_is_one_character(cls, value: str) -> str:
        delimiter = _DELIMITERS.get(value, value)
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
            raise ValueError("it must be one ASCII character that is neither a quote nor a line end")
        return delimiter

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, value: str) -> str:
        try:
            name = codecs.lookup(value).name
            # Some, such as idna, cannot report which bytes are invalid: they are no encodings of files.
            codecs.getincrementaldecoder(name)("surrogateescape").decode("a".encode(name))
        except (LookupError, UnicodeError):
            raise ValueError(
                "there is no such text encoding; common ones are utf-8, latin-1, cp1252 and utf-16"
            ) from None
        return name
