"""What is removed from an image's environment is what no program needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from supply import slim

KEPT = (
    "pandas/core/frame.py",
    "pandas/testing.py",
    "tests/conftest.py",
    "pyarrow/libarrow.so.2600",
    "pyarrow/libarrow_python.so.2600",
    "pyarrow/libarrow_compute.so.2600",
    "pyarrow/_compute.cpython-313-x86_64-linux-gnu.so",
    "botocore/data/endpoints.json",
    "botocore/data/s3/2006-03-01/service-2.json.gz",
    "botocore/data/sts/2011-06-15/service-2.json.gz",
)
REMOVED = (
    "pandas/tests/frame/test_api.py",
    "numpy/_core/include/numpy/ndarraytypes.h",
    "pyarrow/lib.pyx",
    "pyarrow/include/arrow/api.h",
    "pyarrow/libarrow_flight.so.2600",
    "pyarrow/_flight.cpython-313-x86_64-linux-gnu.so",
    "pyarrow/libarrow_s3.so.2600",
    "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.2600.1.0",
    "botocore/data/ec2/2016-11-15/service-2.json.gz",
)


def test_what_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    for name in KEPT + REMOVED:
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_bytes(b"x" * 1000)
    monkeypatch.setattr(sys, "argv", ["slim.py", str(tmp_path), "s3"])

    assert slim.main() == 0

    left = {str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()}
    assert left == set(KEPT)
    assert f"{tmp_path}: 0 MB removed" in capsys.readouterr().out


def test_the_s3_client_that_pyiceberg_imports_is_kept(tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"
    (packages / "pyiceberg").mkdir(parents=True)
    (packages / "pyarrow").mkdir()
    client = packages / "pyarrow" / "libarrow_s3.so.2600"
    client.touch()
    assert client not in slim.unneeded(packages, set())


def test_a_folder_without_packages_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, slim.__file__, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "not a virtual environment" in done.stderr
