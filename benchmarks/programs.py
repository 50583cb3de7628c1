"""Programs that suites need in addition to `make setup`."""

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
    """A program, and its Debian package."""

    name: str
    debian_package: str
    there: Callable[[], bool]


def missing(programs: Iterable[Program]) -> list[Program]:
    """The programs that are not installed."""
    return [program for program in programs if not program.there()]


def nginx_modules() -> Path:
    """The folder of nginx's dynamic modules."""
    options = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True).stderr
    found = _MODULES.search(options)
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
