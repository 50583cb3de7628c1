"""The local AWS: MiniStack (S3, Glue, Athena, IAM, STS on one port) in an environment of its own.

Its packages would conflict with ours (it pins another botocore), so uv creates a virtual environment for it
in the cache, from a lock with hashes. The lock's digest is its name, so that a changed lock creates another.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import lakefeed_common
import lakefeed_local
from lakefeed_common.addresses import join
from lakefeed_common.errors import UnavailableError
from lakefeed_local.files import locked
from lakefeed_local.process import Child, check_free, free_port, reachable, sole_user
from lakefeed_local.settings import LocalSettings

LOCK = Path(__file__).with_name("ministack.requirements.lock")
REQUIREMENTS = Path(__file__).with_name("ministack.requirements.in")
_LAUNCHER = Path(__file__).parent / "ministack" / "launcher.py"
PACKAGES = tuple(
    dict.fromkeys(str(Path(package.__path__[0]).parent) for package in (lakefeed_local, lakefeed_common))
)
"""The folders in which MiniStack's process finds our own packages."""


def environment(cache: Path, lock: Path = LOCK) -> Path:
    """The Python of MiniStack's environment, created at the first call and after a change of the lock.

    Safe in several processes at once: it is built in a staging folder, and moved when it is complete.

    Raises:
        UnavailableError: packages could not be downloaded, or one is not what the lock says.
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    place = cache / "ministack" / f"{digest}-py{version}"
    python = place / "bin" / "python"
    if _usable(python):
        return python
    with locked(cache / "ministack" / ".lock"):
        # Another process may have created it meanwhile.
        if not _usable(python):
            _make(place, lock)
    return python


def _usable(python: Path) -> bool:
    """Whether the environment exists, and so does the Python that it was created from."""
    return python.exists()


def _make(place: Path, lock: Path) -> None:
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=place.parent))
    print("Installing the local AWS from its hashed lock", file=sys.stderr, flush=True)
    # Relocatable: its scripts do not name the staging folder.
    uv = _find_uv()
    make = [
        uv,
        "venv",
        "--quiet",
        "--relocatable",
        "--python",
        sys.executable,
        str(staging / "env"),
    ]
    install = [
        *(uv, "pip", "install", "--python", str(staging / "env" / "bin" / "python")),
        *("--require-hashes", "--requirement", str(lock)),
    ]
    try:
        for command in (make, install):
            # uv shows its progress on standard error, as suits a terminal or a log.
            if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
                raise UnavailableError(
                    f"uv {' '.join(command[1:3])} failed (see above), so the local AWS cannot be installed. "
                    "Check the network and HTTPS_PROXY, then try again."
                )
        shutil.rmtree(place, ignore_errors=True)
        (staging / "env").rename(place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _find_uv() -> str:
    """The program uv: that of its package, or one on the path.

    Raises:
        UnavailableError: there is none.
    """
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        if found := shutil.which("uv"):
            return found
    raise UnavailableError("uv is not installed, so the local AWS cannot be installed. Run `make setup`.")


def make_lock(lock: Path = LOCK, *, upgrade: bool = False) -> None:
    """Resolve MiniStack's packages into the lock: exact versions and hashes, no index address.

    Without `upgrade`, locked versions that still satisfy the requirements are kept.

    Raises:
        UnavailableError: uv could not resolve them.
    """
    command = [
        *(_find_uv(), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"),
        *("--generate-hashes", "--no-annotate", "--no-header", str(REQUIREMENTS), "--output-file", str(lock)),
        *(["--upgrade"] if upgrade else []),
    ]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        raise UnavailableError("uv could not resolve MiniStack's packages (see above)")


class LocalAws:
    """MiniStack with crawls, and with state of its own, from `with` to the end of it.

    Buckets and objects stay in the folder; the catalogue does too if it is stopped in order.

    Args:
        folder: state and logs; one process at a time uses it.
        port: 0 takes a free one.
        settings: everything else; from the environment by default.
        launcher: the script that MiniStack's Python runs, another one to put more in front of MiniStack.

    Raises:
        SettingsError: a given port is taken, or the folder is in use.
        StartError: it did not come up; with the end of its log.
        UnavailableError: its packages could not be downloaded.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        settings: LocalSettings | None = None,
        launcher: Path = _LAUNCHER,
    ) -> None:
        self.folder = folder.absolute()
        self.port = port
        self._settings = settings or LocalSettings()
        self._launcher = launcher
        self._held = ExitStack()
        self._child: Child | None = None

    @property
    def endpoint_url(self) -> str:
        """The address for `AWS_ENDPOINT_URL` of programs on this machine."""
        return f"http://{join(reachable(self._settings.local_host), self.port)}"

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.running

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and return when it answers."""
        python = environment(self._settings.cache)
        host = self._settings.local_host
        if self.port:
            check_free(host, self.port, "LAKEFEED_LOCAL_AWS_PORT")
        else:
            self.port = free_port(host)
        self._held.enter_context(sole_user(self.folder))
        for name in ("state", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        try:
            self._child = Child(
                "the local AWS",
                [str(python), "-P", str(self._launcher), *PACKAGES],
                self.folder / "logs" / "aws.log",
                env=self._environment(host),
                grace_seconds=self._settings.local_stop_seconds,
            )
            self._child.wait_until(self._serves, self._settings.local_start_seconds)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it in order; its state is kept."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        self._held.close()

    def _environment(self, host: str) -> dict[str, str]:
        """MiniStack's settings, those of a crawl, and of ours only what a Python process needs."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
        if self._settings.local_aws_calls is not None:
            kept["LAKEFEED_LOCAL_AWS_CALLS"] = str(self._settings.local_aws_calls.absolute())
        return kept | {
            "BIND_HOST": host,
            "GATEWAY_PORT": str(self.port),
            # Where its own Athena finds its S3.
            "LAKEFEED_LOCAL_AWS_ENDPOINT": join(reachable(host), self.port),
            "MINISTACK_REGION": self._settings.aws_region,
            # Objects as files: Athena's engine reads them from there.
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.folder / "s3"),
            "ATHENA_ENGINE": "duckdb",
            # Databases, tables and crawlers over a stop and a start.
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.folder / "state"),
            # A query's copies of objects.
            "TMPDIR": str(self.folder / "tmp"),
            # Ports of services that nothing here uses; two runs at the same time would conflict.
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            # At its start it removes containers that it made, which may be another run's.
            "DOCKER_HOST": "unix:///nonexistent",
            "LOG_LEVEL": "WARNING",
            "LAKEFEED_LOCAL_CRAWL_SAMPLE_OBJECTS": str(self._settings.local_crawl_sample_objects),
            "PYTHONUNBUFFERED": "1",
        }

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/_ministack/ready", timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False
