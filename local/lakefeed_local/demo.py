"""The whole pipeline on one computer: a CSV through Kafka and S3 to a query in Athena, counted at each step.

Starts a broker and a local AWS on free ports, and the services by their commands; stops them all at the end.
The caller's settings apply to how the CSV is read, stored and queried. Addresses and credentials are the
demo's own, so that it never touches a real account or another broker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Literal

from prometheus_client.parser import text_string_to_metric_families

from lakefeed_common.errors import ExitCode, LakefeedError
from lakefeed_common.settings import PREFIX, KafkaSettings, LakeSettings, variable_name
from lakefeed_local.aws import LocalAws
from lakefeed_local.broker import Broker
from lakefeed_local.bucket import count_lines, fetch, keys
from lakefeed_local.process import Child, free_port
from lakefeed_local.progress import counting
from lakefeed_local.settings import LocalSettings

_BUCKET = "lakefeed-demo"
# A consumer that stores nothing for this long is stuck.
_STANDSTILL_SECONDS = 60.0


class DemoError(LakefeedError):
    """A step of the demo failed, or the counts of two steps differ."""


@dataclass
class Counts:
    """The counts of each step of the pipeline; the content of the demo's report."""

    layout: str = "objects"
    rows_read: int = 0
    rows_rejected: int = 0
    events_delivered: int = 0
    objects_stored: int = 0
    events_stored: int = 0
    dead_letters: int = 0
    rows_queried: int = 0
    table: str = ""
    iceberg_rows: int = 0
    iceberg_table: str = ""
    seconds: float = 0.0

    def disagreements(self) -> list[str]:
        """The counts that differ, one sentence each; empty if every row is accounted for."""
        found = []
        if self.rows_read != self.events_delivered + self.rows_rejected:
            found.append(
                f"{self.rows_read} rows were read, but {self.events_delivered} delivered "
                f"and {self.rows_rejected} rejected"
            )
        if self.events_delivered != self.events_stored + self.dead_letters:
            found.append(
                f"{self.events_delivered} events were delivered, but {self.events_stored} events "
                f"and {self.dead_letters} dead letters are in the bucket"
            )
        tables = {self.table: self.rows_queried, self.iceberg_table: self.iceberg_rows}
        found += [
            f"{self.events_stored} events are stored, but Athena counts {rows} rows in the table {table}"
            for table, rows in tables.items()
            if rows != self.events_stored
        ]
        return found


@dataclass(frozen=True)
class DemoOptions:
    """What a demo publishes and shows.

    Attributes:
        data: the CSV.
        topic: name of the topic and of the table.
        named_query: the named query to run; without one, the first rows are shown.
        report: file for the counts; the rows that cannot become events are written next to it.
        layout: how the consumer stores events.
    """

    data: Path
    topic: str
    named_query: str | None
    report: Path
    layout: Literal["objects", "batches"] = "objects"


class Demo:
    """One run of the demo.

    Args:
        options: what it publishes and shows.
        folder: state and logs of this run.
        settings: cache folder, heaps and time limits of the programs that are started.
    """

    def __init__(self, options: DemoOptions, folder: Path, settings: LocalSettings) -> None:
        self._data = options.data
        self._topic = options.topic
        self._named_query = options.named_query
        self._report = options.report
        self._folder = folder
        self._analytics = ""
        self._settings = settings
        self._began = time.monotonic()
        self._environment: dict[str, str] = {}
        self._services: dict[str, Child] = {}
        self.counts = Counts(layout=options.layout)
        # Addresses to show while it runs, and whether each program is running.
        self.addresses: dict[str, str] = {}
        self.watched: dict[str, Callable[[], bool]] = {}

    def run(self, running: ExitStack) -> None:
        """Run all steps; the programs are stopped with the stack.

        Raises:
            LakefeedError: a step failed, or counts differ.
        """
        self._say("Starting ZooKeeper, Kafka and a local AWS")
        self._start_backends(running)
        self._say("Starting the consumer and the analytics service")
        self._start_services(running)
        self._say(f"Publishing {self._data} to the topic {self._topic}")
        self._publish()
        batches = self.counts.layout == "batches"
        self._say("Storing events in batches" if batches else "Storing each event as its own object")
        self._wait_until_stored()
        self._say("Crawling the objects into a Glue table")
        self._command("analytics", "crawl")
        self._count_rows()
        self._say("Compacting the objects into an Iceberg table")
        self._compact()
        self._show_answer()
        self.counts.seconds = round(time.monotonic() - self._began, 1)
        wrong = self.counts.disagreements()
        if wrong:
            raise DemoError("The counts differ: " + "; ".join(wrong))

    def _say(self, step: str) -> None:
        print(f"[{time.monotonic() - self._began:5.1f} s] {step}", file=sys.stderr, flush=True)

    def _start_backends(self, running: ExitStack) -> None:
        broker = running.enter_context(Broker(self._folder / "broker", settings=self._settings))
        aws = running.enter_context(LocalAws(self._folder / "aws", settings=self._settings))
        self.watched |= {"Kafka": lambda: broker.running, "local AWS": lambda: aws.running}
        self.addresses |= {"Kafka": broker.bootstrap_servers, "local AWS": aws.endpoint_url}
        self._environment = callers_environment(os.environ) | {
            "AWS_ENDPOINT_URL": aws.endpoint_url,
            "AWS_REGION": self._settings.aws_region,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "LAKEFEED_TOPIC": self._topic,
            "LAKEFEED_BUCKET": _BUCKET,
            "LAKEFEED_CREATE_BUCKET": "true",
            "LAKEFEED_CRAWL_POLL_SECONDS": "2",
            "LAKEFEED_LAYOUT": self.counts.layout,
        }
        self._environment.setdefault("LAKEFEED_BATCH_LINGER_SECONDS", "1")

    def _start_services(self, running: ExitStack) -> None:
        for name, command in (("analytics", "serve"), ("consumer", "run")):
            address = f"http://127.0.0.1:{(port := free_port())}"
            log = self._folder / "logs" / f"{name}.log"
            environment = self._environment | {"LAKEFEED_HTTP_PORT": str(port)}
            service = Child(f"the {name}", [_program(name), command], log, env=environment, grace_seconds=40)
            running.callback(service.stop)
            service.wait_until(_answers(f"{address}/healthz"), self._settings.local_start_seconds)
            self._services[name] = service
            self.watched[name] = partial(getattr, service, "running")
            self.addresses[f"{name} metrics"] = f"{address}/metrics"
            if name == "analytics":
                self._analytics = address
                self.addresses["analytics API"] = f"{address}/docs"

    def _publish(self) -> None:
        summary, rejects = self._folder / "summary.json", self._report.with_name("demo-rejects.jsonl")
        arguments = ["publish", "--summary", str(summary), "--rejects", str(rejects), str(self._data)]
        self._command("producer", *arguments, allowed=(ExitCode.OK, ExitCode.REJECTED))
        published = json.loads(summary.read_text())
        self.counts.rows_read = published["rows_read"]
        self.counts.rows_rejected = published["rows_rejected"]
        self.counts.events_delivered = published["events_delivered"]

    def _wait_until_stored(self) -> None:
        with counting("events stored", self.counts.events_delivered) as show:
            self._follow_consumer(show)
        # Counted in the bucket, independently of the consumer's metrics.
        bucket = f"{self._environment['AWS_ENDPOINT_URL']}/{_BUCKET}"
        batches = self.counts.layout == "batches"
        stored = list(keys(bucket, f"{'batches' if batches else 'events'}/{self._topic}/"))
        self.counts.objects_stored = len(stored)
        self.counts.events_stored = (
            sum(count_lines(bucket, key) for key in stored) if batches else len(stored)
        )
        self.counts.dead_letters = sum(1 for _ in keys(bucket, f"dead-letters/{self._topic}/"))

    def _follow_consumer(
        self, show: Callable[[int], None], metric: str = "lakefeed_consumer_objects_total"
    ) -> None:
        """Wait until a metric of the consumer, which counts events, has reached all events."""
        consumer, address = self._services["consumer"], self.addresses["consumer metrics"]
        stored, moved = 0, time.monotonic()
        while stored < self.counts.events_delivered:
            now = _metric(address, metric)
            if now > stored:
                stored, moved = now, time.monotonic()
                show(stored)
            if not consumer.running or time.monotonic() - moved > _STANDSTILL_SECONDS:
                raise DemoError(
                    f"The consumer stopped at {stored} of {self.counts.events_delivered} events. "
                    f"The end of the consumer's log, {consumer.log_file}:\n{consumer.log_end()}"
                )
            time.sleep(0.2)

    def _count_rows(self) -> None:
        tables = self._tables()
        if not tables:
            raise DemoError("The crawl created no table")
        self.counts.table = str(tables[0]["table"])
        self.counts.rows_queried = self._count(self.counts.table)

    def _compact(self) -> None:
        # Only what is committed is compacted; in a new topic the offsets count the events.
        self._follow_consumer(lambda _: None, "lakefeed_consumer_committed_offset")
        print(indent(self._command("analytics", "compact"), " " * 10), file=sys.stderr, flush=True)
        tables = {str(each["table"]) for each in self._tables()}
        tables.discard(self.counts.table)
        if not tables:
            raise DemoError("The compaction created no table")
        self.counts.iceberg_table = tables.pop()
        self.counts.iceberg_rows = self._count(self.counts.iceberg_table)

    def _count(self, table: str) -> int:
        count = f'SELECT count(*) AS events FROM "{table}"'  # noqa: S608 - a name in the catalogue
        self._say(f"Querying Athena: {count}")
        answer = json.loads(self._command("analytics", "query", count, "--format", "json"))
        return int(answer[0]["events"])

    def _tables(self) -> list[dict[str, object]]:
        listed: list[dict[str, object]] = json.loads(self._command("analytics", "tables", "--format", "json"))
        return listed

    def _show_answer(self) -> None:
        table = self.counts.iceberg_table
        if self._named_query is None:
            title, sql = "first rows", f'SELECT * FROM "{table}" LIMIT 10'  # noqa: S608
            query = [sql]
        else:
            named = json.loads(fetch(f"{self._analytics}/v1/named-queries/{self._named_query}"))
            title = f"named query {self._named_query}, {named['title'].lower()}"
            sql = named["sql"].replace("${table}", table)
            query = ["--name", self._named_query]
        self._say(f"Querying Athena: {title}")
        print(indent(sql.strip(), " " * 10), file=sys.stderr, flush=True)
        print(self._command("analytics", "query", *query), flush=True)

    def _command(self, service: str, *arguments: str, allowed: tuple[int, ...] = (ExitCode.OK,)) -> str:
        """Run a command of a service to its end; returns its standard output."""
        command = [_program(service), *arguments]
        done = subprocess.run(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            # Ctrl-C is for this program, which stops the command: while it loads, it would print a traceback.
            process_group=0,
        )
        if done.returncode not in allowed:
            raise DemoError(
                f"lakefeed-{service} {arguments[0]} ended with exit code {done.returncode} (see above)"
            )
        return done.stdout.rstrip()

    def write_report(self) -> None:
        """Write the counts as JSON."""
        self._report.write_text(json.dumps(asdict(self.counts), indent=2) + "\n")


# Settings by which a service finds another one, or which need more than one broker on this computer.
_OWN_SETTINGS = {
    variable_name(name, field)
    for settings in (KafkaSettings, LakeSettings)
    for name, field in settings.model_fields.items()
} | {
    f"{PREFIX}{name}"
    for name in ("HTTP_HOST", "HTTP_PORT", "TOPICS", "TOPIC_REPLICAS", "RESULTS_LOCATION", "CRAWLER_SCHEDULE")
}


def callers_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the demo's programs: without AWS's variables and without addresses of services."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _OWN_SETTINGS and not name.startswith("AWS_")
    }


def _program(service: str) -> str:
    return str(Path(sys.executable).with_name(f"lakefeed-{service}"))


def _answers(address: str) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            fetch(address)
        except OSError:
            return False
        return True

    return answers


def _metric(address: str, name: str) -> int:
    """A counter, summed over its labels; 0 while the service does not respond."""
    try:
        page = fetch(address).decode()
    except OSError:
        return 0
    return int(
        sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name
        )
    )
