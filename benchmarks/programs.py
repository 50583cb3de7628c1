"""The programs that a suite needs besides what `make setup` installs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_MODULES = re.compile(r"--modules-path=(\S+)")


@dataclass(frozen=True)
class Program:
    """A program of the machine, and how a user gets it."""

    name: str
    debian_package: str
    there: Callable[[], bool]


def missing(programs: Iterable[Program]) -> list[Program]:
    """Those that are not on this machine."""
    return [program for program in programs if not program.there()]


def nginx_modules() -> Path:
    """Where nginx keeps the modules that it loads on demand."""
    told = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True).stderr
    found = _MODULES.search(told)
    return Path(found[1] if found else "/usr/lib/nginx/modules")


def _has_headers_more() -> bool:
    return (
        shutil.which("nginx") is not None
        and (nginx_modules() / "ngx_http_headers_more_filter_module.so").exists()
    )


NGINX = Program("nginx", "nginx-light", lambda: shutil.which("nginx") is not None)
HEADERS_MORE = Program(
    "nginx's module headers-more", "libnginx-mod-http-headers-more-filter", _has_headers_more
)
KCAT = Program("kcat", "kcat", lambda: shutil.which("kcat") is not None)
