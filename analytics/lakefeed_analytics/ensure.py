"""Keeps bucket, Glue database, crawler and Athena workgroup in line with the settings.

Differences are updated in place; nothing is ever deleted or recreated, and attributes without a setting
(tags, descriptions, classifiers) are not touched. A resource that another service uses under the same name is
not changed: a crawler of other topics, or one whose changes are reverted repeatedly.
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
# Changes that are reverted this often come from another service with other settings, not from a user.
_MOST_UPDATES, _UPDATES_SECONDS = 3, 600.0
_UPDATES_ROUNDS = 10


@dataclass(frozen=True)
class Change:
    """A change: `what` is for example `bucket x`; `fields` are the updated ones, none if it was created."""

    what: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"updated {self.what}: {', '.join(self.fields)}" if self.fields else f"created {self.what}"


Steps = Mapping[str, Callable[[], list[Change]]]
"""For each dependency, a function that ensures it and returns the changes."""


def crawler_definition(settings: AnalyticsSettings) -> dict[str, Any]:
    """The arguments of Glue's CreateCrawler and UpdateCrawler, without the name."""
    # Glue counts the bucket as level 1: each topic's folder becomes one table, regardless of the folders
    # below it.
    level = 2 + len(settings.layout_prefix.split("/"))
    return {
        "Role": settings.crawler_role,
        "DatabaseName": settings.glue_database,
        "Targets": {
            "S3Targets": [{"Path": settings.topic_location(topic)} for topic in settings.topic_names]
        },
        "TablePrefix": settings.table_prefix,
        "Schedule": settings.crawler_schedule,
        "SchemaChangePolicy": {"UpdateBehavior": "UPDATE_IN_DATABASE", "DeleteBehavior": "LOG"},
        # CRAWL_NEW_FOLDERS_ONLY would be cheaper, but requires LOG for updates: new columns would
        # never be added to the table.
        "RecrawlPolicy": {"RecrawlBehavior": "CRAWL_EVERYTHING"},
        "Configuration": json.dumps(
            {
                "Version": 1.0,
                # Otherwise a day with slightly different rows becomes a separate table.
                "Grouping": {
                    "TableGroupingPolicy": "CombineCompatibleSchemas",
                    "TableLevelConfiguration": level,
                },
                # Otherwise Athena fails on partitions whose columns differ from the table's.
                "CrawlerOutput": {"Partitions": {"AddOrUpdateBehavior": "InheritFromTable"}},
            }
        ),
    }


def workgroup_definition(settings: AnalyticsSettings) -> Any:
    """The workgroup's configuration for Athena's CreateWorkGroup."""
    return {
        "ResultConfiguration": {"OutputLocation": settings.results},
        # Without this, clients could bypass the limit with their own settings.
        "EnforceWorkGroupConfiguration": True,
        "BytesScannedCutoffPerQuery": settings.query_bytes_limit,
        "PublishCloudWatchMetricsEnabled": True,
    }


class Ensurer:
    """Creates and updates AWS resources according to the settings, one dependency at a time."""

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
        """With `replace_targets`, a crawler that only crawls other topics is updated as well."""
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
        """Ensure the bucket; it is created only if the settings allow it. Raises MissingError."""
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
        """Ensure the Glue database and the crawler."""
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
                    # Another service with the same settings was faster.
                    if edge.code(error) != "AlreadyExistsException":
                        raise
                    return []
            return [_changed(Change(f"crawler {name}"))]
        present = {
            **present,
            "Schedule": (present.get("Schedule") or {}).get("ScheduleExpression", ""),
            "TablePrefix": present.get("TablePrefix") or "",
        }
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
                log.info("Crawler %s will be updated when its crawl has ended", name)
                return []
        self._updates["crawler"].append(self._clock())
        return [_changed(Change(f"crawler {name}", fields))]

    def _refuse_foreign(self, targets: Mapping[str, Any]) -> None:
        """Raise RefusedError if the crawler has none of our targets: it belongs to another service."""
        settings = self._settings
        # The crawler may still have the folders of the other layout.
        ours = [place for topic in settings.topic_names for place in settings.topic_locations(topic)]
        present = [each["Path"].rstrip("/") + "/" for each in targets.get("S3Targets", [])]
        others = [f"{len(each)} {kind}" for kind, each in targets.items() if kind != "S3Targets" and each]
        # A user may have set a parent folder; a service sets the folder of a topic.
        if any(own.startswith(path) for own in ours for path in present) or not (present or others):
            return
        raise RefusedError(
            f"the crawler {self._settings.crawler} crawls {', '.join([*present, *others])} but none of "
            f"{', '.join(map(settings.topic_location, settings.topic_names))}: it belongs to another "
            "service and is not changed. Set LAKEFEED_CRAWLER to another name; or, if the crawler belongs to "
            "this service and its topics were changed, run `lakefeed-analytics ensure --replace-targets` once"
        )

    def _refuse_contested(self, kind: str, name: str, fields: Iterable[str]) -> None:
        """Raise RefusedError if our updates are reverted repeatedly."""
        now = self._clock()
        window = max(_UPDATES_SECONDS, _UPDATES_ROUNDS * self._settings.crawl_poll_seconds)
        recent = self._updates[kind] = [each for each in self._updates[kind] if now - each < window]
        if len(recent) < _MOST_UPDATES:
            return
        raise RefusedError(
            f"the {kind} {name} was updated {len(recent)} times within {window:g} s, and reverted "
            f"each time ({', '.join(fields)}): another service with other settings uses that name. Set "
            f"LAKEFEED_{kind.upper()} to another name, or use the same settings for both"
        )

    def athena(self) -> list[Change]:
        """Ensure the workgroup, and check the bucket of the results. Raises MissingError."""
        results = self._settings.results_bucket
        if results != self._settings.bucket and not self._has_bucket(results):
            raise MissingError(
                f"there is no bucket {results} for query results. Create it, or set "
                "LAKEFEED_RESULTS_LOCATION to another location"
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
                    # Athena has no error code for resources that exist; another service was faster.
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
    """A crawler's field, normalized to compare Glue's response with our definition."""
    match field:
        case "Role":
            # Set and returned as ARN or name; a name is unique in its account, regardless of its path.
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
    """Whether the present value includes the wanted one."""
    if isinstance(wanted, dict):
        return isinstance(present, dict) and all(
            _holds(present.get(key), each) for key, each in wanted.items()
        )
    return bool(present == wanted)


def _as_updates(fields: dict[str, Any]) -> dict[str, Any]:
    """Rename fields: UpdateWorkGroup names the result configuration differently than CreateWorkGroup."""
    return {
        ("ResultConfigurationUpdates" if key == "ResultConfiguration" else key): value
        for key, value in fields.items()
    }
