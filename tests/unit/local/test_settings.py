"""Where downloads go."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from lakefeed_common.errors import SettingsError
from lakefeed_local.settings import LocalSettings


@pytest.mark.parametrize("home", [None, ""])
def test_without_home_the_cache_is_in_the_users_home_folder(
    monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LAKEFEED_CACHE_FOLDER", raising=False)
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("HOME", home)
    own = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert LocalSettings().cache == own / ".cache" / "lakefeed"
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(SettingsError, match="LAKEFEED_CACHE_FOLDER"):
        _ = LocalSettings().cache
