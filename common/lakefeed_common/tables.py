"""Valid names of columns in the Glue catalogue and Athena."""

from __future__ import annotations

import re

PARTITION_KEY = "dt"
"""The partition column of every table: the day of the events' timestamps, from the object keys."""

# https://docs.aws.amazon.com/athena/latest/ug/tables-databases-columns-names.html
MAX_NAME_BYTES = 255
# https://docs.aws.amazon.com/glue/latest/webapi/API_Column.html
NOT_IN_NAMES = re.compile(r"[\x00-\x08\x0a-\x1f\ud800-\udfff\ufffe\uffff]+")
"""Characters that are not allowed in column names; a tab is allowed."""


def folded(name: str) -> str:
    """The name as in the catalogue and Athena, where names that differ only in case are the same column."""
    return name.lower()


def is_column_name(name: str) -> bool:
    """Whether a column can have this name."""
    return 0 < len(name.encode(errors="surrogatepass")) <= MAX_NAME_BYTES and not NOT_IN_NAMES.search(name)
