"""Makes sure that bucket, Glue database, crawler and Athena workgroup are as the settings say.

What differs is changed in place; nothing is ever deleted or made anew, and what the settings do
not speak of (tags, descriptions, classifiers) stays as its owner left it. What another service of the
same name uses is not changed: a crawler of other topics, or what is changed back again and again.
"""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lakefeed_analytics import edge
from lakefeed_analytics.edge import explained
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import MissingError, RefusedError

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

DEPENDENCIES = ("bucket", "glue", "athena")
# So often in a while something else sets another value again: no hand, but a service with other settings.
_MOST_UPDATES, _UPDATES_SECONDS = 3, 600.0
_UPDATES_ROUNDS = 10


@dataclass(frozen=True)
class Change:
    """What was done: `what` is `bucket x` and so on; `fields` are the updated ones, none when created."""

    what: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"updated {self.what}: {', '.join(self.fields)}" if self.fields else f"created {self.what}"


Steps = Mapping[str, Callable[[], list[Change]]]
"""For each dependency, what makes sure of it and returns what it changed."""


def crawler_definition(settings: AnalyticsSettings) -> dict[str, Any]:
    """The crawler as Glue's CreateCrawler and UpdateCrawler take it, without its name."""
    # In Glue's count the bucket is level 1, so that each topic's folder is one table, whatever
    # the crawler thinks of the folders below.
    level = 2 + len(settings.events_prefix.split("/"))
    return {
        "Role": settings.crawler_role,
        "DatabaseName": settings.glue_database,
        "Targets": {
            "S3Targets": [{"Path": settings.topic_location(topic)} for topic in settings.topic_names]
        },
        "Schedule": settings.crawler_schedule,
        "SchemaChangePolicy": {"UpdateBehavior": "UPDATE_IN_DATABASE", "DeleteBehavior": "LOG"},
        # CRAWL_NEW_FOLDERS_ONLY would be cheaper, but it wants LOG for updates: new columns would
        # never reach the table.
        "RecrawlPolicy": {"RecrawlBehavior": "CRAWL_EVERYTHING"},
        "Configuration": json.dumps(
            {
                "Version": 1.0,
                # Otherwise a day whose rows differ a little becomes a table of its own.
                "Grouping": {
                    "TableGroupingPolicy": "CombineCompatibleSchemas",
                    "TableLevelConfiguration": level,
                },
                # Otherwise Athena stops at partitions whose columns differ from the table's.
                "CrawlerOutput": {"Partitions": {"AddOrUpdateBehavior": "InheritFromTable"}},
            }
        ),
    }


def workgroup_definition(settings: AnalyticsSettings) -> Any:
    """The workgroup's configuration as Athena's CreateWorkGroup takes it."""
    return {
        "ResultConfiguration": {"OutputLocation": settings.results},
        # Without this a client's own settings would go round the limit.
        "EnforceWorkGroupConfiguration": True,
        "BytesScannedCutoffPerQuery": settings.query_bytes_limit,
        "PublishCloudWatchMetricsEnabled": True,
    }


class Ensurer:
    """Brings AWS to what the settings say, one dependency at a time."""

    def __init__(
        self,
        s3: S3Client,
        glue: GlueClient,
        athena: AthenaClient,
        settings: AnalyticsSettings,
        *,
        replace_targets: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`replace_targets` says that a crawler of other topics alone is this service's all the same."""
        self._replace_targets = replace_targets
        self._clock = clock
        self._updates: dict[str, list[float]] = defaultdict(list)
        self._s3 = s3
        self._glue = glue
        self._athena = athena
        self._settings = settings
        self.steps: Steps = {
            "bucket": self.bucket,
            "glue": self.glue,
            "athena": self.athena,
        }

    def bucket(self) -> list[Change]:
        """The bucket exists; created only when the settings say so. Raises MissingError."""
        name, settings = self._settings.bucket, self._settings
        if self._has_bucket(name):
            return []
        if not settings.create_bucket:
            raise MissingError(
                f"there is no bucket {name}. Create it, or set LAKEFEED_BUCKET to another one, "
                "or LAKEFEED_CREATE_BUCKET=true"
            )
        arguments: dict[str, Any] = {}
        if settings.aws_region != "us-east-1":
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": settings.aws_region}
        with explained(settings, f"creating the bucket {name}"):
            try:
                self._s3.create_bucket(Bucket=name, **arguments)
            except ClientError as error:
                if edge.code(error) != "BucketAlreadyOwnedByYou":
                    raise
                return []
        return [_changed(Change(f"bucket {name}"))]

    def _has_bucket(self, name: str) -> bool:
        try:
            with explained(self._settings, f"looking for the bucket {name}"):
                self._s3.head_bucket(Bucket=name)
        except MissingError:
            return False
        return True

    def glue(self) -> list[Change]:
        """The Glue database and the crawler exist and are as they should be."""
        return [*self._database(), *self._crawler()]

    def _database(self) -> list[Change]:
        name = self._settings.glue_database
        try:
            with explained(self._settings, f"looking for the Glue database {name}"):
                self._glue.get_database(Name=name)
            return []
        except MissingError:
            pass
        with explained(self._settings, f"creating the Glue database {name}"):
            try:
                self._glue.create_database(
                    DatabaseInput={"Name": name, "Description": "Events stored by Lakefeed"}
                )
            except ClientError as error:
                if edge.code(error) != "AlreadyExistsException":
                    raise
                return []
        return [_changed(Change(f"Glue database {name}"))]

    def _crawler(self) -> list[Change]:
        name, wanted = self._settings.crawler, crawler_definition(self._settings)
        try:
            with explained(self._settings, f"looking for the crawler {name}"):
                present: Any = self._glue.get_crawler(Name=name)["Crawler"]
        except MissingError:
            if not wanted["Schedule"]:
                del wanted["Schedule"]
            with explained(self._settings, f"creating the crawler {name}"):
                try:
                    self._glue.create_crawler(Name=name, **wanted)
                except ClientError as error:
                    # Another service of the same settings was quicker.
                    if edge.code(error) != "AlreadyExistsException":
                        raise
                    return []
            return [_changed(Change(f"crawler {name}"))]
        present = {**present, "Schedule": (present.get("Schedule") or {}).get("ScheduleExpression", "")}
        fields = tuple(
            field
            for field, value in wanted.items()
            if _comparable(field, present.get(field)) != _comparable(field, value)
        )
        if not fields:
            return []
        if "Targets" in fields and not self._replace_targets:
            self._refuse_foreign(present.get("Targets") or {})
        self._refuse_contested("crawler", name, fields)
        with explained(self._settings, f"updating the crawler {name}"):
            try:
                self._glue.update_crawler(Name=name, **{field: wanted[field] for field in fields})
            except ClientError as error:
                if edge.code(error) != "CrawlerRunningException":
                    raise
                log.info("crawler %s is updated when its crawl has ended", name)
                return []
        self._updates["crawler"].append(self._clock())
        return [_changed(Change(f"crawler {name}", fields))]

    def _refuse_foreign(self, targets: Mapping[str, Any]) -> None:
        """Raise RefusedError for a crawler with none of our targets: it is another service's."""
        ours = [self._settings.topic_location(topic) for topic in self._settings.topic_names]
        present = [each["Path"].rstrip("/") + "/" for each in targets.get("S3Targets", [])]
        others = [f"{len(each)} {kind}" for kind, each in targets.items() if kind != "S3Targets" and each]
        # Above our folders a user may have set it; a service sets a topic's folder.
        if any(own.startswith(path) for own in ours for path in present) or not (present or others):
            return
        raise RefusedError(
            f"the crawler {self._settings.crawler} crawls {', '.join([*present, *others])} and nothing of "
            f"this service ({', '.join(ours)}): another service uses that name, and is left as it is. Set "
            "LAKEFEED_CRAWLER to a name of this service's own; or, if the crawler is this service's and its "
            "topics were changed, run `lakefeed-analytics ensure --replace-targets` once"
        )

    def _refuse_contested(self, kind: str, name: str, fields: Iterable[str]) -> None:
        """Raise RefusedError when what we set is changed again and again."""
        now = self._clock()
        window = max(_UPDATES_SECONDS, _UPDATES_ROUNDS * self._settings.crawl_poll_seconds)
        recent = self._updates[kind] = [each for each in self._updates[kind] if now - each < window]
        if len(recent) < _MOST_UPDATES:
            return
        raise RefusedError(
            f"the {kind} {name} was set {len(recent)} times within {window:g} s, and each time something "
            f"else changed it again ({', '.join(fields)}): another service with other settings uses that "
            f"name. Set LAKEFEED_{kind.upper()} to a name of this service's own, or give both the same "
            "settings"
        )

    def athena(self) -> list[Change]:
        """The bucket of the results exists, and the workgroup is as it should be. Raises MissingError."""
        results = self._settings.results_bucket
        if results != self._settings.bucket and not self._has_bucket(results):
            raise MissingError(
                f"there is no bucket {results} for the results of queries. Create it, or set "
                "LAKEFEED_RESULTS_LOCATION to another place"
            )
        return self._workgroup()

    def _workgroup(self) -> list[Change]:
        name, wanted = self._settings.workgroup, workgroup_definition(self._settings)
        try:
            with explained(self._settings, f"looking for the workgroup {name}"):
                group: Any = self._athena.get_work_group(WorkGroup=name)["WorkGroup"]
        except MissingError:
            with explained(self._settings, f"creating the workgroup {name}"):
                try:
                    self._athena.create_work_group(
                        Name=name, Description="Queries of Lakefeed", Configuration=wanted
                    )
                except ClientError as error:
                    # Athena has no code of its own for what exists; another service was quicker.
                    if "already" not in edge.message(error):
                        raise
                    return []
            return [_changed(Change(f"workgroup {name}"))]
        present = group.get("Configuration", {})
        updates = {field: value for field, value in wanted.items() if not _holds(present.get(field), value)}
        arguments: dict[str, Any] = {"ConfigurationUpdates": _as_updates(updates)} if updates else {}
        if group.get("State", "ENABLED") != "ENABLED":
            arguments["State"] = "ENABLED"
        if not arguments:
            return []
        self._refuse_contested("workgroup", name, updates or ("State",))
        with explained(self._settings, f"updating the workgroup {name}"):
            self._athena.update_work_group(WorkGroup=name, **arguments)
        self._updates["workgroup"].append(self._clock())
        return [
            _changed(Change(f"workgroup {name}", (*updates, *(["State"] if "State" in arguments else []))))
        ]


def _changed(change: Change) -> Change:
    log.info("%s", change)
    return change


def _comparable(field: str, value: Any) -> Any:
    """A crawler's field in a form in which Glue's answer and our definition are alike."""
    match field:
        case "Role":
            # Given as ARN or name, told as either; a name is unique in its account, whatever its path.
            return str(value).rsplit("/", 1)[-1]
        case "Targets":
            return sorted(
                (each["Path"], tuple(each.get("Exclusions", [])))
                for each in (value or {}).get("S3Targets", [])
            )
        case "Configuration":
            return json.loads(value) if value else {}
        case "SchemaChangePolicy" | "RecrawlPolicy":
            return dict(value or {})
    return value


def _holds(present: Any, wanted: Any) -> bool:
    """Whether the present value says what the wanted one says; it may say more."""
    if isinstance(wanted, dict):
        return isinstance(present, dict) and all(
            _holds(present.get(key), each) for key, each in wanted.items()
        )
    return bool(present == wanted)


def _as_updates(fields: dict[str, Any]) -> dict[str, Any]:
    """UpdateWorkGroup's name for the result configuration differs from CreateWorkGroup's."""
    return {
        ("ResultConfigurationUpdates" if key == "ResultConfiguration" else key): value
        for key, value in fields.items()
    }
