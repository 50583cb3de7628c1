"""The settings of the local programs, each declared once."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Literal

from lakefeed_common.errors import SettingsError
from lakefeed_common.settings import AwsSettings, LogSettings, setting

_CHECKOUT = Path(__file__).resolve().parents[2]


def _home_of_user() -> Path:
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise SettingsError(
            "HOME is not set and this user has no home folder. Set LAKEFEED_CACHE_FOLDER to a folder for "
            "downloads"
        ) from None


class CacheSettings(LogSettings):
    """Where downloads are stored."""

    cache_folder: Path | None = setting(
        None,
        "Folder of downloaded jars and of the local AWS's packages; "
        "by default `lakefeed` in `$XDG_CACHE_HOME`, or in `~/.cache`.",
    )

    @property
    def cache(self) -> Path:
        """The folder of downloads, which may not exist yet."""
        if self.cache_folder is not None:
            return self.cache_folder.expanduser().absolute()
        base, home = os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME")
        if base:
            return Path(base) / "lakefeed"
        # With an empty HOME, Path.home() is the current folder or the root folder.
        return (Path(home) if home else _home_of_user()) / ".cache" / "lakefeed"


class LocalSettings(CacheSettings, AwsSettings):
    """The broker and the AWS that run on this computer."""

    local_folder: Path = setting(
        Path("build/local"), "Folder of state and logs; only one run at a time can use it."
    )
    local_host: str = setting(
        "127.0.0.1", "Address on which Kafka, ZooKeeper and the local AWS listen; `0.0.0.0` in a container."
    )
    local_kafka_port: int = setting(9092, "Port of Kafka; 0 means a free one.", ge=0, le=65535)
    local_zookeeper_port: int = setting(2181, "Port of ZooKeeper; 0 means a free one.", ge=0, le=65535)
    local_aws_port: int = setting(4566, "Port of the local AWS; 0 means a free one.", ge=0, le=65535)
    local_aws_calls: Path | None = setting(
        None,
        "File in which the local AWS logs each signed call, one JSON object per line: access key, service, "
        "action and parameters.",
    )
    local_start_seconds: float = setting(60.0, "How long a program may take to become ready.", unit="s", gt=0)
    local_stop_seconds: float = setting(
        15.0, "How long a program may take to stop before it is killed.", unit="s", gt=0
    )
    local_kafka_heap: str = setting("512m", "Maximum heap of Kafka's JVM.", pattern=r"^\d+[kmgKMG]$")
    local_zookeeper_heap: str = setting("128m", "Maximum heap of ZooKeeper's JVM.", pattern=r"^\d+[kmgKMG]$")
    local_jvm: Literal["quick-start", "throughput"] = setting(
        "quick-start",
        "What the JVMs of Kafka and ZooKeeper are tuned for: `quick-start` halves the CPU time of a start, "
        "`throughput` is Kafka's own choice for sustained load.",
    )
    local_crawl_sample_objects: int = setting(
        10,
        "How many objects of each partition, spread evenly over it, a crawl reads to find the columns.",
        ge=1,
    )
    broker_config: Path | None = setting(
        None, "Folder of `server.properties` and `zookeeper.properties`; by default the checkout's `broker`."
    )

    @property
    def broker_folder(self) -> Path:
        """The folder of the broker's property files."""
        return self.broker_config.absolute() if self.broker_config else _CHECKOUT / "broker"
