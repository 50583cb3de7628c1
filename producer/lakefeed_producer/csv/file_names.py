"""Names of files that are derived from the names of CSV files."""

from __future__ import annotations

import hashlib
import os

from lakefeed_common.text import visible

# Longest name that common file systems accept.
_MAX_NAME_BYTES = 255


def safe_file_name(name: str, suffix: str = "") -> str:
    """Derive a name that every file system accepts: UTF-8, 255 bytes at most.

    A name that is too long is cut and gets digits of its hash, so that two of them stay distinct.
    """
    plain = visible(name) + suffix
    if len(plain.encode()) <= _MAX_NAME_BYTES:
        return plain
    suffix = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}{suffix}"
    return visible(name).encode()[: _MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix
