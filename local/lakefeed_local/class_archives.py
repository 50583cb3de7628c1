"""Archives of the classes of Kafka and ZooKeeper, for starts that take a third less CPU time.

A JVM that starts with an archive maps it into memory, instead of reading, verifying and linking thousands of
classes from jars. An archive that does not fit the JVM or the jars is ignored. Making both takes as long as
three starts, so this is for those who start Kafka often, such as tests.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from lakefeed_local import java
from lakefeed_local.broker import KAFKA, ZOOKEEPER, Broker
from lakefeed_local.files import locked
from lakefeed_local.settings import LocalSettings


class _RecordedBroker(Broker):
    """Writes down which classes its JVMs load."""

    def _class_flags(self, main_class: str) -> tuple[str, ...]:
        return (f"-XX:DumpLoadedClassList={self.classes(main_class)}",)

    def classes(self, main_class: str) -> Path:
        """The list of a program's classes, complete when it has ended."""
        return self.folder / f"{main_class}.classes"


def ensure(settings: LocalSettings) -> list[Path]:
    """Make sure that both archives are in the cache; starts Kafka and ZooKeeper once if they are not.

    Safe in several processes at once: one of them makes the archives, the others wait.

    Raises:
        StartError: Kafka or ZooKeeper did not start.
        subprocess.CalledProcessError: the JVM cannot make an archive.
    """
    with TemporaryDirectory(prefix="lakefeed-") as scratch:
        broker = _RecordedBroker(Path(scratch), settings=settings)
        archives = {
            main: java.class_archive(settings.cache, broker.jars, main) for main in (ZOOKEEPER, KAFKA)
        }
        folder = archives[KAFKA].parent
        with locked(folder / ".lock"):
            if not all(archive.is_file() for archive in archives.values()):
                with broker:
                    pass
                for main, archive in archives.items():
                    made = folder / f"{main}.new"
                    command = java.make_class_archive(broker.jars, broker.classes(main), made)
                    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                    made.replace(archive)
    return list(archives.values())
