"""Every setting of the producer."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from lakefeed_common.settings import KafkaSettings, ServiceSettings, setting

_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


class ProducerSettings(ServiceSettings, KafkaSettings):
    """How CSV files are read and how their rows are delivered."""

    http_port: int = setting(
        8001, "Port on which metrics and health are served; 0 takes a free one.", ge=0, le=65535
    )
    delimiter: str = setting(
        ",",
        "What separates fields: one ASCII character, or `tab`, `semicolon`, `pipe`, `space`. "
        "A first line such as `sep=;` comes before it.",
    )
    encoding: str = setting("utf-8", "Text encoding of the CSV files, by its Python name.")
    skip: int = setting(
        0,
        "Lines before the header that are left out, empty ones included. A first line such as `sep=;`, which "
        "names the delimiter to Excel, is obeyed and left out without it.",
        ge=0,
    )
    column_names: Literal["sql", "as-is"] = setting(
        "sql", "`sql` makes column names safe for SQL (`Adj Close` becomes `adj_close`), `as-is` keeps them."
    )
    key: str | None = setting(None, "Column whose value becomes the record's key; no key by default.")
    schema_file: Path | None = setting(
        None, 'JSON file that gives columns their types, such as `{"price": "number"}`; found by default.'
    )
    rate: float | None = setting(
        None, "Events sent in a second, at most; as many as possible by default.", unit="1/s", gt=0
    )
    max_row_bytes: int = setting(
        4 << 20, "A longer CSV row, or a quote open for longer, is rejected.", unit="B", ge=1024
    )
    topic_partitions: int = setting(1, "Partitions of the topic if it has to be made.", ge=1, le=10_000)
    topic_replicas: int = setting(
        1, "Replicas of each partition of the topic if it has to be made.", ge=1, le=100
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = setting(
        "lz4", "How batches of records are compressed on their way and in the broker."
    )
    delivery_timeout_seconds: float = setting(
        120.0, "A file is given up when the broker acknowledges no record for this long.", unit="s", ge=1
    )
    state_folder: Path = setting(
        Path("lakefeed-state"), "Folder in which `watch` remembers what it has published, and its rejects."
    )
    watch_settle_seconds: float = setting(
        2.0,
        "A file counts as completely written when it has not changed for this long, or for 15 times as long "
        "if it ends in the middle of a line, and no program on this computer has it open for writing.",
        unit="s",
        ge=0,
    )
    watch_poll_seconds: float = setting(1.0, "Pause between two looks into the folder.", unit="s", gt=0)

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
            # Some, such as idna, cannot say which bytes are wrong: files are not written in those.
            codecs.getincrementaldecoder(name)("replace").decode("a".encode(name))
        except (LookupError, UnicodeError):
            raise ValueError(
                "there is no such text encoding; common ones are utf-8, latin-1, cp1252 and utf-16"
            ) from None
        return name
