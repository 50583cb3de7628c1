"""MiniStack's environment is created once for a lock, and holds the version that the engine is adapted to."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakefeed_common.errors import UnavailableError
from lakefeed_local import aws

NOTHING = "# no packages\n"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "lock"
    file.write_text(NOTHING)
    return file


def test_each_lock_has_one_environment(tmp_path: Path, lock: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = set(pool.map(lambda _: aws.environment(tmp_path / "cache", lock), range(3)))
    lock.write_text(NOTHING + "# changed\n")
    second = aws.environment(tmp_path / "cache", lock)

    assert len(first) == 1
    assert second not in first
    assert (
        subprocess.run(
            [second, "-c", "import sys; sys.exit(sys.prefix == sys.base_prefix)"], check=False
        ).returncode
        == 0
    )
    assert list((tmp_path / "cache" / "ministack").glob(".staging-*")) == []


def test_an_environment_that_cannot_be_installed_leaves_nothing(tmp_path: Path, lock: Path) -> None:
    lock.write_text("idna==3.10 --hash=sha256:" + "0" * 64 + "\n")

    with pytest.raises(UnavailableError, match="cannot be installed"):
        aws.environment(tmp_path / "cache", lock)

    assert [entry.name for entry in (tmp_path / "cache" / "ministack").iterdir()] == [".lock"]


def test_the_engine_is_adapted_to_the_locked_version() -> None:
    locked = re.search(r"^ministack==(\S+)", aws.LOCK.read_text(), re.MULTILINE)
    engine = (Path(aws.__file__).parent / "ministack" / "engine.py").read_text()

    assert locked is not None
    assert f'VERSION = "{locked.group(1)}"' in engine
    assert "://" not in aws.LOCK.read_text()
    assert aws.LOCK.read_text().count("--hash=sha256:") > 18
