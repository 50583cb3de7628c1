"""The jars of Kafka and ZooKeeper: pinned by SHA-256, downloaded once, verified before every use.

`jgo.toml` has the requirements, and `jgo.lock.toml` every jar with its SHA-256 and no repository address;
`kraft.toml` and `kraft.lock.toml` are the same for Kafka 4, which runs without ZooKeeper.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from jgo.env import EnvironmentBuilder, EnvironmentSpec, LockFile, compute_spec_hash
from jgo.maven import MavenContext, PythonResolver

from lakefeed_common.errors import LakefeedError, UnavailableError
from lakefeed_local.files import locked
from lakefeed_local.progress import Report, downloading

SPEC = Path(__file__).with_name("jgo.toml")
LOCK = Path(__file__).with_name("jgo.lock.toml")
KRAFT_SPEC = Path(__file__).with_name("kraft.toml")
KRAFT_LOCK = Path(__file__).with_name("kraft.lock.toml")
_AGENT = "jmx_prometheus_javaagent"
_CONNECTIONS = 8


class BrokenDownloadError(LakefeedError):
    """A jar was downloaded twice, and its SHA-256 is not that of the lock."""


@dataclass(frozen=True)
class Jar:
    """One locked jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        """`group:artifact:version`."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def path(self) -> Path:
        """Its path in the folder of a Maven repository."""
        return Path(
            *self.group.split("."), self.artifact, self.version, f"{self.artifact}-{self.version}.jar"
        )


@dataclass(frozen=True)
class Jars:
    """Verified jars on this machine."""

    classpath: str
    jmx_agent: Path


# Downloads one jar into the folder of a Maven repository and returns its file.
Fetch = Callable[[Jar, Path, Report], Path]


def read_lock(lock: Path = LOCK) -> list[Jar]:
    """The jars that a lock pins.

    Raises:
        LakefeedError: a jar has no SHA-256.
    """
    jars = [
        Jar(jar.groupId, jar.artifactId, jar.version, jar.sha256 or "")
        for jar in LockFile.load(lock).dependencies
    ]
    for jar in jars:
        if len(jar.sha256) != 64:
            raise LakefeedError(f"{lock}: {jar.coordinate} has no SHA-256. Run `make lock`")
    return jars


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_with_jgo(jar: Jar, repository: Path, report: Report) -> Path:
    """Download one jar into a folder.

    Raises:
        UnavailableError: the network or the repository is unreachable.
    """

    @contextmanager
    def count(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield lambda size: report(size=size)

    maven = MavenContext(repo_cache=repository, resolver=PythonResolver(progress_callback=count), timeout=30)
    artifact = maven.create_dependency(jar.coordinate).artifact
    try:
        return Path(artifact.resolve())
    except (requests.RequestException, RuntimeError, OSError) as error:
        raise UnavailableError(
            f"Downloading {jar.coordinate} failed: {error}. "
            "Check the network and HTTPS_PROXY, then try again."
        ) from error


def _intact(jar: Jar, file: Path) -> bool:
    return file.is_file() and sha256(file) == jar.sha256


def _put(jar: Jar, folder: Path, staging: Path, fetch: Fetch, report: Report) -> None:
    """Download one jar, verify it and move it to its place; a broken one is downloaded once more."""
    for attempt in ("first", "second"):
        file = fetch(jar, staging / attempt, report)
        if _intact(jar, file):
            target = folder / jar.path
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
            report(files=1)
            return
    raise BrokenDownloadError(
        f"{jar.coordinate} was downloaded twice, and its SHA-256 is {sha256(file)} instead of {jar.sha256}, "
        "so it is not used. Check whether a proxy changes files or the repository has replaced the file."
    )


def ensure(cache: Path, lock: Path = LOCK, fetch: Fetch = fetch_with_jgo) -> Jars:
    """Make sure that every locked jar is in the cache; missing and damaged ones are downloaded.

    Safe in several processes at once: one of them downloads, the others wait.

    Raises:
        UnavailableError: a jar is missing and cannot be downloaded.
        BrokenDownloadError: a jar has another SHA-256 than the lock, even when downloaded again.
    """
    folder = cache / "jars"
    jars = read_lock(lock)
    _ensure(jars, folder, fetch)
    agent = next(jar for jar in jars if jar.artifact == _AGENT)
    return Jars(
        classpath=":".join(str(folder / jar.path) for jar in jars if jar is not agent),
        jmx_agent=folder / agent.path,
    )


def ensure_agent(cache: Path, lock: Path = LOCK, fetch: Fetch = fetch_with_jgo) -> Path:
    """Make sure that the metrics agent is in the cache, as `ensure` does for all jars."""
    agent = next(jar for jar in read_lock(lock) if jar.artifact == _AGENT)
    _ensure([agent], cache / "jars", fetch)
    return cache / "jars" / agent.path


def _ensure(jars: list[Jar], folder: Path, fetch: Fetch) -> None:
    if _damaged(jars, folder):
        with locked(folder / ".lock"):
            # Another process may have downloaded them meanwhile.
            if missing := _damaged(jars, folder):
                _download(missing, folder, fetch)


def _damaged(jars: list[Jar], folder: Path) -> list[Jar]:
    with ThreadPoolExecutor() as pool:
        intact = list(pool.map(lambda jar: _intact(jar, folder / jar.path), jars))
    return [jar for jar, whole in zip(jars, intact, strict=True) if not whole]


def _download(jars: list[Jar], folder: Path, fetch: Fetch) -> None:
    for jar in jars:
        (folder / jar.path).unlink(missing_ok=True)
    # On the same file system as the cache, so that moving a complete file is atomic.
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=folder))
    try:
        with (
            downloading("jars of Kafka", len(jars)) as report,
            ThreadPoolExecutor(_CONNECTIONS) as pool,
        ):
            tasks = [pool.submit(_put, jar, folder, staging / jar.sha256, fetch, report) for jar in jars]
            try:
                for task in as_completed(tasks):
                    task.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def make_lock(spec_file: Path = SPEC, lock: Path = LOCK) -> list[Jar]:
    """Resolve a spec and write its lock: every jar by its SHA-256, no repository address."""
    with tempfile.TemporaryDirectory() as repository:
        maven = MavenContext(repo_cache=Path(repository), timeout=30)
        spec = EnvironmentSpec.load(spec_file)
        wanted: list[Any] = EnvironmentBuilder(maven).spec_to_dependencies(spec)
        inputs, transitive = maven.resolver.resolve(wanted)
        dependencies = [dep for dep in (*inputs, *transitive) if dep.scope in (None, "compile", "runtime")]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(lambda dep: dep.artifact.resolve(), dependencies))
        made = LockFile.from_resolved_dependencies(
            dependencies, environment_name=spec.name, spec_hash=compute_spec_hash(spec_file)
        )
        if lock.exists() and _entries(LockFile.load(lock)) == _entries(made):
            return read_lock(lock)  # keeps the date of the file
        made.save(lock)
    return read_lock(lock)


def _entries(lock: Any) -> tuple[str, list[dict[str, Any]]]:
    return lock.spec_hash, [dependency.to_dict() for dependency in lock.dependencies]
