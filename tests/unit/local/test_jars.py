"""Only jars with the SHA-256 of the lock are used, whatever damaged them."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakefeed_common.errors import LakefeedError, UnavailableError
from lakefeed_local import jars
from lakefeed_local.jars import BrokenDownloadError, Jar
from lakefeed_local.progress import Report

NAMES = ("kafka", "zookeeper", "jmx_prometheus_javaagent")


def content(name: str) -> bytes:
    return f"the jar {name}".encode() * 100


class Registry:
    """Serves jars, some of them broken for the first few downloads."""

    def __init__(self, broken: dict[str, int] | None = None) -> None:
        self.broken = Counter(broken or {})
        self.fetched: Counter[str] = Counter()

    def __call__(self, jar: Jar, repository: Path, report: Report) -> Path:
        self.fetched[jar.artifact] += 1
        body = content(jar.artifact)
        if self.broken[jar.artifact] > 0:
            self.broken[jar.artifact] -= 1
            body = body[:-1]
        file = repository / jar.path
        file.parent.mkdir(parents=True)
        file.write_bytes(body)
        report(size=len(body))
        return file


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    entries = [
        f'[[dependencies]]\ngroupId = "org.{name}"\nartifactId = "{name}"\nversion = "1"\n'
        f'packaging = "jar"\nsha256 = "{hashlib.sha256(content(name)).hexdigest()}"\n'
        for name in NAMES
    ]
    file = tmp_path / "jgo.lock.toml"
    file.write_text("".join(entries))
    return file


def cached(cache: Path, name: str) -> Path:
    return next((cache / "jars").rglob(f"{name}-1.jar"))


def test_jars_are_downloaded_once(tmp_path: Path, lock: Path) -> None:
    registry = Registry()

    first = jars.ensure(tmp_path / "cache", lock, registry)
    second = jars.ensure(tmp_path / "cache", lock, registry)

    assert first == second
    assert registry.fetched == Counter(NAMES)
    assert [Path(jar).name for jar in first.classpath.split(":")] == ["kafka-1.jar", "zookeeper-1.jar"]
    assert first.jmx_agent.name == "jmx_prometheus_javaagent-1.jar"


@pytest.mark.parametrize("damage", [b"", b"other", content("kafka") + b"x"])
def test_a_damaged_jar_in_the_cache_is_downloaded_again(tmp_path: Path, lock: Path, damage: bytes) -> None:
    jars.ensure(tmp_path / "cache", lock, Registry())
    cached(tmp_path / "cache", "kafka").write_bytes(damage)
    registry = Registry()

    jars.ensure(tmp_path / "cache", lock, registry)

    assert registry.fetched == {"kafka": 1}
    assert cached(tmp_path / "cache", "kafka").read_bytes() == content("kafka")


def test_a_broken_download_is_retried_once(tmp_path: Path, lock: Path) -> None:
    registry = Registry(broken={"kafka": 1})

    jars.ensure(tmp_path / "cache", lock, registry)

    assert registry.fetched["kafka"] == 2
    assert cached(tmp_path / "cache", "kafka").read_bytes() == content("kafka")


def test_a_jar_that_stays_broken_is_reported_and_not_kept(tmp_path: Path, lock: Path) -> None:
    with pytest.raises(BrokenDownloadError, match=r"org\.kafka:kafka:1.*SHA-256"):
        jars.ensure(tmp_path / "cache", lock, Registry(broken={"kafka": 9}))

    assert list((tmp_path / "cache" / "jars").rglob("kafka-1.jar")) == []
    assert list((tmp_path / "cache" / "jars").glob(".staging-*")) == []


def test_concurrent_processes_download_each_jar_once(tmp_path: Path, lock: Path) -> None:
    registry = Registry()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: jars.ensure(tmp_path / "cache", lock, registry), range(4)))

    assert registry.fetched == Counter(NAMES)
    assert len(set(found)) == 1


def test_a_jar_that_the_repository_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("jgo.util.http.get", refuse)
    jar = Jar("org.kafka", "kafka", "1", "0" * 64)

    with pytest.raises(UnavailableError, match=r"org\.kafka:kafka:1 failed: no route to host"):
        jars.fetch_with_jgo(jar, tmp_path, lambda **_: None)


def test_a_jar_without_a_hash_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "jgo.lock.toml"
    lock.write_text('[[dependencies]]\ngroupId = "a"\nartifactId = "b"\nversion = "1"\npackaging = "jar"\n')

    with pytest.raises(LakefeedError, match="a:b:1 has no SHA-256"):
        jars.read_lock(lock)


@pytest.mark.parametrize(
    ("spec", "lock"), [(jars.SPEC, jars.LOCK), (jars.KRAFT_SPEC, jars.KRAFT_LOCK)], ids=["zookeeper", "kraft"]
)
def test_the_lock_covers_the_requirements_and_has_no_address(spec: Path, lock: Path) -> None:
    wanted = tomllib.loads(spec.read_text())["dependencies"]["coordinates"]
    locked = {jar.coordinate for jar in jars.read_lock(lock)}

    assert set(wanted) <= locked, "stale: make lock"
    assert not re.search(r"https?:|://", lock.read_text())
    versions = {jar.version for jar in jars.read_lock(lock) if jar.group == "org.apache.kafka"}
    assert len(versions) == 1, f"Kafka in several versions: {versions}"
