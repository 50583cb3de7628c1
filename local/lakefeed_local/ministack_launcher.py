"""Starts MiniStack with crawlers that end when their crawl has ended, and not after five seconds.

Run by the Python of MiniStack's own environment, so it needs MiniStack and the standard library only.
MiniStack's crawler is a timer that makes no table and then says SUCCEEDED. Here StartCrawler queues a
crawl; a crawl service takes it (`LakefeedClaimCrawl`), keeps in touch (`LakefeedBeatCrawl`) and reports
its end (`LakefeedFinishCrawl`), three actions that are added to the Glue API. What users of Glue see is
as Glue does it: RUNNING while there is work, STOPPING after StopCrawler, LastCrawl with the outcome,
ListCrawls, GetCrawlerMetrics.

StartQueryExecution keeps Athena's word too: one ClientRequestToken, one query; tables of JSON are read with
the catalogue's columns and partitions (`athena_tables`). And where the environment
names a file, each signed call is noted in it: who called, and what. RunInstances makes what it
was asked for, and DescribeInstances tells it.

Bound to one version of MiniStack; any other stops the start with a message.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import re
import runpy
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from ministack import app
from ministack.core.responses import error_response_json, get_account_id, get_region, json_response
from ministack.services import athena, ec2, glue

VERSION = "1.5.33"
SILENCE_SECONDS = 10.0  # of a crawl service, before its crawls are given up
HISTORY = 50  # crawls kept for each crawler
CRAWL_DPU = 2  # what Glue takes for a crawl
CALLS = "LAKEFEED_LOCAL_AWS_CALLS"  # names the file of the calls

Record = dict[str, Any]
Request = dict[str, Any]  # the body of a call
Response = Any  # what MiniStack's own functions make and return

_changed = threading.Condition()
# (account, region, crawler) -> its crawls, oldest first
_crawls: dict[tuple[str, str, str], list[Record]] = {}
_service_seen = 0.0

# (account, region, ClientRequestToken) -> the statement, and the answer to its start
_started: dict[tuple[str, str, str], tuple[str, Response]] = {}
_launched: dict[tuple[str, str, str], Response] = {}

# This environment has no package of ours.
_TABLES = runpy.run_path(str(Path(__file__).with_name("athena_tables.py")))

_calls: TextIO | None = None
_CREDENTIAL = re.compile(r"Credential=([^/,]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")

_ORIGINALS: dict[str, Callable[..., Any]] = {}
_REPLACED = (
    "_create_crawler",
    "_update_crawler",
    "_delete_crawler",
    "_get_crawler",
    "_get_crawlers",
    "_start_crawler",
    "_stop_crawler",
    "_get_crawler_metrics",
    "_restore_state",
)


# ---- what users call ----------------------------------------------------------------------


def _start_crawler(data: Request) -> Response:
    name = data.get("Name", "")
    with _changed:
        crawler = glue._crawlers.get(name)
        if crawler is None:
            return _no_crawler(name)
        if crawler["State"] != "READY":
            return _running(name)
        crawler["State"] = "RUNNING"
        crawl = {
            "CrawlId": str(uuid.uuid4()),
            "State": "RUNNING",
            "StartTime": time.time(),
            "Account": get_account_id(),
            "Region": get_region(),
            "Crawler": crawler,
            "Beat": None,
            "Counts": {},
        }
        history = _crawls.setdefault(_key(name), [])
        history.append(crawl)
        del history[:-HISTORY]
        _changed.notify_all()
    return json_response({})


def _stop_crawler(data: Request) -> Response:
    name = data.get("Name", "")
    with _changed:
        crawler = glue._crawlers.get(name)
        if crawler is None:
            return _no_crawler(name)
        if crawler["State"] == "STOPPING":
            return error_response_json("CrawlerStoppingException", f"Crawler {name} is stopping", 400)
        if crawler["State"] != "RUNNING":
            return error_response_json("CrawlerNotRunningException", f"Crawler {name} is not running", 400)
        crawler["State"] = "STOPPING"
        for crawl in _crawls.get(_key(name), []):
            if crawl["State"] == "RUNNING" and crawl["Beat"] is None:
                _end(crawl, "CANCELLED", "")
    return json_response({})


def _get_crawler(data: Request) -> Response:
    name = data.get("Name", "")
    with _changed:
        crawler = glue._crawlers.get(name)
        return _no_crawler(name) if crawler is None else json_response({"Crawler": _shown(crawler)})


def _get_crawlers(_data: Request) -> Response:
    with _changed:
        return json_response({"Crawlers": [_shown(crawler) for crawler in glue._crawlers.values()]})


def _shown(crawler: Record) -> Record:
    shown = copy.copy(crawler)
    shown["CrawlElapsedTime"] = 0
    if crawler["State"] != "READY":
        crawl = _crawls[_key(crawler["Name"])][-1]
        shown["CrawlElapsedTime"] = int((time.time() - crawl["StartTime"]) * 1000)
    return shown


def _create_crawler(data: Request) -> Response:
    if refused := _check_policy(data):
        return refused
    answer = _ORIGINALS["_create_crawler"](
        {"LineageConfiguration": {"CrawlerLineageSettings": "DISABLE"}, **data}
    )
    if answer[0] == 200:
        glue._tags[glue._arn("crawler", data["Name"])] = dict(data.get("Tags") or {})
    return answer


def _update_crawler(data: Request) -> Response:
    with _changed:
        return _check_policy(data) or _check_idle(data) or _ORIGINALS["_update_crawler"](data)


def _delete_crawler(data: Request) -> Response:
    with _changed:
        if refused := _check_idle(data):
            return refused
        _crawls.pop(_key(data.get("Name", "")), None)
        glue._tags.pop(glue._arn("crawler", data.get("Name", "")), None)
        return _ORIGINALS["_delete_crawler"](data)


def _check_idle(data: Request) -> Response | None:
    crawler = glue._crawlers.get(data.get("Name", ""))
    return _running(crawler["Name"]) if crawler is not None and crawler["State"] != "READY" else None


def _check_policy(data: Request) -> Response | None:
    if data.get("RecrawlPolicy", {}).get("RecrawlBehavior") != "CRAWL_NEW_FOLDERS_ONLY":
        return None
    policy = data.get("SchemaChangePolicy", {})
    if policy.get("UpdateBehavior") == policy.get("DeleteBehavior") == "LOG":
        return None
    return error_response_json(
        "InvalidInputException",
        'The SchemaChangePolicy for "Crawl new folders only" Amazon S3 target can have only LOG '
        "DeleteBehavior value and LOG UpdateBehavior value.",
        400,
    )


def _list_crawls(data: Request) -> Response:
    name = data.get("CrawlerName", "")
    with _changed:
        if name not in glue._crawlers:
            return _no_crawler(name)
        newest_first = _crawls.get(_key(name), [])[::-1]
        start = int(data.get("NextToken") or 0)
        end = start + int(data.get("MaxResults") or 20)
        answer: Record = {"Crawls": [_history_entry(name, crawl) for crawl in newest_first[start:end]]}
        if end < len(newest_first):
            answer["NextToken"] = str(end)
    return json_response(answer)


def _history_entry(name: str, crawl: Record) -> Record:
    entry = {
        "CrawlId": crawl["CrawlId"],
        "State": crawl["State"],
        "StartTime": crawl["StartTime"],
        "LogGroup": "/aws-glue/crawlers",
        "LogStream": name,
        "MessagePrefix": crawl["CrawlId"],
    }
    if "EndTime" in crawl:
        entry["EndTime"] = crawl["EndTime"]
        entry["DPUHour"] = round(CRAWL_DPU * (crawl["EndTime"] - crawl["StartTime"]) / 3600, 6)
        entry["Summary"] = json.dumps(crawl["Summary"])
    if crawl.get("ErrorMessage"):
        entry["ErrorMessage"] = crawl["ErrorMessage"]
    return entry


def _get_crawler_metrics(data: Request) -> Response:
    with _changed:
        names = data.get("CrawlerNameList") or list(glue._crawlers.keys())
        known = [name for name in names if name in glue._crawlers]
        return json_response({"CrawlerMetricsList": [_metrics(name) for name in known]})


def _metrics(name: str) -> Record:
    ended = [crawl for crawl in _crawls.get(_key(name), []) if "EndTime" in crawl]
    seconds = [crawl["EndTime"] - crawl["StartTime"] for crawl in ended]
    counts = ended[-1]["Counts"] if ended else {}
    return {
        "CrawlerName": name,
        "TimeLeftSeconds": 0.0,
        "StillEstimating": glue._crawlers[name]["State"] == "RUNNING",
        "LastRuntimeSeconds": seconds[-1] if seconds else 0.0,
        "MedianRuntimeSeconds": statistics.median(seconds) if seconds else 0.0,
        "TablesCreated": counts.get("TablesCreated", 0),
        "TablesUpdated": counts.get("TablesUpdated", 0),
        "TablesDeleted": counts.get("TablesDeleted", 0),
    }


def _start_query_execution(data: Request) -> Response:
    """A start that is tried again is the same query: the answer to the first may have been lost."""
    token, statement = data.get("ClientRequestToken"), data.get("QueryString", "")
    if token is None:
        return _ORIGINALS["_start_query_execution"](data)
    known = _started.get(_key(token))
    if known is None:
        answer = _ORIGINALS["_start_query_execution"](data)
        if answer[0] == 200:
            _started[_key(token)] = (statement, answer)
        return answer
    if known[0] != statement:
        return error_response_json("InvalidRequestException", "Idempotent parameters do not match", 400)
    return known[1]


def _table_relation(table_data: Record, files: list[str]) -> str:
    """A table's rows as DuckDB reads them; one of JSON by its columns and partitions in the catalogue."""
    storage = table_data.get("StorageDescriptor") or {}
    if athena._data_format(table_data) != "json" or not storage.get("Columns"):
        return str(_ORIGINALS["_table_relation"](table_data, files))
    partitions = glue._partitions.get(f"{table_data['DatabaseName']}/{table_data['Name']}") or []
    found = _TABLES["relation"](table_data, files, partitions)
    return str(athena._empty_relation(table_data) if found is None else found)


def _datum_text(value: Any) -> str:
    """A value as Athena writes it."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        moment = value.astimezone(UTC)
        return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"
    return str(_ORIGINALS["_datum_text"](value))


def _run_instances(data: Request) -> Response:
    """An instance with the network, the root volume and the metadata options that it was asked for.

    As with a query, one that is asked for again with the same token is the same.
    """
    token = ec2._p(data, "ClientToken")
    if token and (known := _launched.get(_key(token))) is not None:
        return known
    asked = dict(data)
    # Whoever wants a public address puts these into the network interface.
    for name in data:
        if name.startswith("NetworkInterface.1.S"):
            asked[name.removeprefix("NetworkInterface.1.")] = data[name]
    before = set(ec2._instances.keys())
    answer = _ORIGINALS["_run_instances"](asked)
    for name in set(ec2._instances.keys()) - before:
        instance = ec2._instances[name]
        instance["MetadataOptions"] = _members(data, "MetadataOptions.")
        root = instance["BlockDeviceMappings"][0]
        ec2._volumes[root["Ebs"]["VolumeId"]].update(_volume(data, root["DeviceName"]))
    if token and answer[0] == 200:
        _launched[_key(token)] = answer
    return answer


def _volume(data: Request, device: str) -> Record:
    """What a RunInstances call says of the volume of a device, as MiniStack keeps it."""
    number = 1
    while name := ec2._p(data, f"BlockDeviceMapping.{number}.DeviceName"):
        if name == device:
            said = _members(data, f"BlockDeviceMapping.{number}.Ebs.")
            kept: dict[str, tuple[str, Callable[[str], Any]]] = {
                "VolumeSize": ("Size", int),
                "VolumeType": ("VolumeType", str),
                "Encrypted": ("Encrypted", "true".__eq__),
                "Iops": ("Iops", int),
                "Throughput": ("Throughput", int),
            }
            return {kept[each][0]: kept[each][1](value) for each, value in said.items() if each in kept}
        number += 1
    return {}


def _members(data: Request, prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): ec2._p(data, name) for name in data if name.startswith(prefix)}


def _instance_xml(inst: Record) -> str:
    text: str = _ORIGINALS["_instance_xml"](inst)
    options = inst.get("MetadataOptions")
    if not options:
        return text
    told = {"state": "applied", "httpProtocolIpv6": "disabled", "instanceMetadataTags": "disabled"}
    told |= {name[0].lower() + name[1:]: value for name, value in options.items()}
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in told.items())
    return text.removesuffix("</item>") + f"<metadataOptions>{inner}</metadataOptions></item>"


# ---- what a crawl service calls -----------------------------------------------------------


def _claim_crawl(data: Request) -> Response:
    """Wait for a crawl that nobody has taken, in any account and region, and give it away."""
    global _service_seen
    end = time.monotonic() + min(float(data.get("WaitSeconds", 0)), SILENCE_SECONDS / 2)
    with _changed:
        while True:
            _service_seen = time.monotonic()
            waiting = [crawl for crawl in _running_crawls() if crawl["Beat"] is None]
            if waiting:
                crawl = min(waiting, key=lambda waits: waits["StartTime"])
                crawl["Beat"] = time.monotonic()
                shown = {key: crawl[key] for key in ("CrawlId", "Account", "Region", "Crawler")}
                return json_response({"Crawl": copy.deepcopy(shown)})
            if (left := end - time.monotonic()) <= 0:
                return json_response({})
            _changed.wait(left)


def _beat_crawl(data: Request) -> Response:
    """Say that a crawl is still being worked on; the answer says whether it should go on."""
    global _service_seen
    with _changed:
        _service_seen = time.monotonic()
        crawl = _crawl(data)
        if crawl is None:
            return json_response({"Continue": False})
        crawl["Beat"] = time.monotonic()
        return json_response({"Continue": crawl["Crawler"]["State"] == "RUNNING"})


def _finish_crawl(data: Request) -> Response:
    with _changed:
        crawl = _crawl(data)
        if crawl is not None:
            crawl["Counts"] = data.get("Counts", {})
            _end(crawl, data["Status"], data.get("ErrorMessage", ""), data.get("Summary"))
    return json_response({})


def _running_crawls() -> list[Record]:
    return [crawl for history in _crawls.values() for crawl in history if crawl["State"] == "RUNNING"]


def _crawl(data: Request) -> Record | None:
    return next((crawl for crawl in _running_crawls() if crawl["CrawlId"] == data["CrawlId"]), None)


def _end(crawl: Record, status: str, message: str, summary: Record | None = None) -> None:
    states = {"SUCCEEDED": "COMPLETED", "FAILED": "FAILED", "CANCELLED": "STOPPED"}
    crawl.update(State=states[status], EndTime=time.time(), Summary=summary or {}, ErrorMessage=message)
    last = {
        "Status": status,
        "LogGroup": "/aws-glue/crawlers",
        "LogStream": crawl["Crawler"]["Name"],
        "MessagePrefix": crawl["CrawlId"],
        "StartTime": crawl["StartTime"],
    }
    if message:
        last["ErrorMessage"] = message
    crawl["Crawler"].update(State="READY", LastCrawl=last)


def _watch() -> None:
    """End crawls that no crawl service works on, so that nobody waits for them for ever."""
    while True:
        time.sleep(0.5)
        now = time.monotonic()
        with _changed:
            absent = now - _service_seen > SILENCE_SECONDS
            for crawl in _running_crawls():
                waited = time.time() - crawl["StartTime"]
                if crawl["Beat"] is None and absent and waited > SILENCE_SECONDS:
                    _end(
                        crawl,
                        "FAILED",
                        "No crawl service took this crawl: is `lakefeed-local crawler` running?",
                    )
                elif crawl["Beat"] is not None and now - crawl["Beat"] > SILENCE_SECONDS:
                    _end(
                        crawl,
                        "FAILED",
                        "The crawl service went silent: see the log of `lakefeed-local crawler`.",
                    )


# ---- the calls ----------------------------------------------------------------------------


async def _handle_post_body_shortcuts(
    method: str, path: str, headers: dict[str, str], body: bytes, query_params: Record, request_id: str
) -> Response:
    """Note a call on its way; what nobody signed is none of AWS's API."""
    signed = _CREDENTIAL.search(headers.get("authorization", ""))
    if signed is not None and _calls is not None:
        target = headers.get("x-amz-target", "").rpartition(".")[2]
        call: Record = {
            "access_key": signed[1],
            "region": signed[2],
            "service": signed[3],
            "method": method,
            "path": path,
            "query": query_params,
            "target": target,
            "body": json.loads(body or b"{}") if target else {},
        }
        _calls.write(json.dumps(call) + "\n")
    return await _ORIGINALS["_handle_post_body_shortcuts"](
        method, path, headers, body, query_params, request_id
    )


# ---- putting it in ------------------------------------------------------------------------


def _key(name: str) -> tuple[str, str, str]:
    return (get_account_id(), get_region(), name)


def _no_crawler(name: str) -> Response:
    return error_response_json("EntityNotFoundException", f"Crawler {name} not found", 400)


def _running(name: str) -> Response:
    return error_response_json(
        "CrawlerRunningException", f"Crawler with name {name} has already started", 400
    )


def _restore_state(data: Record) -> None:
    """A crawl that ran when the state was saved runs no more."""
    _ORIGINALS["_restore_state"](data)
    for crawler in glue._crawlers._data.values():
        if crawler["State"] != "READY":
            crawler["State"] = "READY"
            crawler["LastCrawl"] = {
                "Status": "FAILED",
                "ErrorMessage": "The local AWS was stopped during the crawl.",
                "LogGroup": "/aws-glue/crawlers",
                "LogStream": crawler["Name"],
                "StartTime": time.time(),
            }


_ADDED = {
    "ListCrawls": _list_crawls,
    "LakefeedClaimCrawl": _claim_crawl,
    "LakefeedBeatCrawl": _beat_crawl,
    "LakefeedFinishCrawl": _finish_crawl,
}


def _handle_request_sync(
    method: str, path: str, headers: dict[str, str], body: bytes, query_params: Record
) -> Response:
    added = _ADDED.get(headers.get("x-amz-target", "").rpartition(".")[2])
    if added is not None:
        return added(json.loads(body or b"{}"))
    return _ORIGINALS["_handle_request_sync"](method, path, headers, body, query_params)


def _replace(service: ModuleType, name: str) -> None:
    original = getattr(service, name, None)
    ours = globals()[name]
    if original is None or len(inspect.signature(original).parameters) != len(
        inspect.signature(ours).parameters
    ):
        module = service.__name__.rpartition(".")[2]
        sys.exit(f"ministack_launcher: MiniStack has no {module}.{name} as {VERSION} has it")
    _ORIGINALS[name] = original
    setattr(service, name, ours)


def main() -> None:
    """Replace MiniStack's crawler and run MiniStack."""
    global _calls
    found = version("ministack")
    if found != VERSION:
        sys.exit(f"ministack_launcher: made for MiniStack {VERSION}, found {found}")
    for name in (*_REPLACED, "_handle_request_sync"):
        _replace(glue, name)
    _replace(athena, "_start_query_execution")
    _replace(athena, "_table_relation")
    _replace(athena, "_datum_text")
    _replace(ec2, "_instance_xml")
    _replace(ec2, "_run_instances")
    # It has taken the function already.
    ec2._ACTION_MAP["RunInstances"] = _run_instances
    if CALLS in os.environ:
        _calls = open(os.environ[CALLS], "a", buffering=1)  # noqa: SIM115, PTH123 - for as long as we live
        _replace(app, "_handle_post_body_shortcuts")
    threading.Thread(target=_watch, name="crawl-watchdog", daemon=True).start()
    app.main()


if __name__ == "__main__":
    main()
