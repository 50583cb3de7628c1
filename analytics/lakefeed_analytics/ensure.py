"""Makes sure that bucket, Glue database, crawler and Athena workgroup are as the settings say.

What differs is changed in place; nothing is ever deleted or made anew, and what the settings do
not speak of (tags, descriptions, classifiers) stays as its owner left it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lakefeed_analytics import edge
from lakefeed_analytics.edge import explained
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import MissingError

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

DEPENDENCIES = ("bucket", "glue", "athena")


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
        self, s3: S3Client, glue: GlueClient, athena: AthenaClient, settings: AnalyticsSettings
    ) -> None:
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
        with explained(self._settings, f"updating the crawler {name}"):
            try:
                self._glue.update_crawler(Name=name, **{field: wanted[field] for field in fields})
            except ClientError as error:
                if edge.code(error) != "CrawlerRunningException":
                    raise
                log.info("crawler %s is updated when its crawl has ended", name)
                return []
        return [_changed(Change(f"crawler {name}", fields))]

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
        with explained(self._settings, f"updating the workgroup {name}"):
            self._athena.update_work_group(WorkGroup=name, **arguments)
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
