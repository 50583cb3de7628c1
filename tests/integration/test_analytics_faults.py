"""The analytics service on AWS's bad days: it waits, says why once, and neither loses nor doubles work."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lakefeed_analytics.crawls import CrawlKeeper
from lakefeed_common import aws as aws_clients
from lakefeed_local.aws import LocalAws
from tests.helpers.analytics.contracts import NUMBER_ROWS, NUMBERS
from tests.helpers.analytics.lake import NO_TLS
from tests.helpers.analytics.running import RunningAnalytics
from tests.helpers.faulty_aws import (
    Answer,
    Call,
    Fault,
    FaultyAws,
    Forward,
    edited,
    error,
    late,
    lost,
    never,
    reset,
    s3_error,
)
from tests.helpers.services import Endpoint, Service, repeated_reasons
from tests.helpers.waiting import wait_for as wait_until

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client

TABLE = "demo_testing"
DAY = "2026-01-01"
Start = Callable[..., Endpoint]
StartProcess = Callable[[], Service]
# Each look is a request of the service, and costs both.
wait_for = partial(wait_until, every=0.2)


@pytest.fixture
def faulty(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyAws]:
    """The test's AWS behind a proxy, where `AWS_ENDPOINT_URL` leads."""
    with FaultyAws(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A throttled call is tried again as often as ever, without boto3's seconds in between."""
    scale = {"throttling_base_scale": 0.05, "non_throttling_base_scale": 0.05}
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff._DEFAULT_BACKOFF_CONFIG", scale)


@pytest.fixture
def quick(bucket: str) -> dict[str, str]:
    """Settings of a service whose looks come quickly."""
    return {
        "LAKEFEED_BUCKET": bucket,
        "LAKEFEED_CRAWL_POLL_SECONDS": "0.5",
        "LAKEFEED_CRAWL_MIN_INTERVAL_SECONDS": "0",
    }


@pytest.fixture
def start(faulty: FaultyAws, quick: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts the service in this process; it ends with the test."""
    with ExitStack() as running:
        numbers = count()

        def begin(**settings: str) -> Endpoint:
            log = tmp_path / f"log-{next(numbers)}"
            return running.enter_context(RunningAnalytics(log, **(quick | settings)))

        yield begin


@pytest.fixture
def start_process(faulty: FaultyAws, quick: dict[str, str], tmp_path: Path) -> Iterator[StartProcess]:
    """Starts `lakefeed-analytics serve`, to be killed; it ends with the test."""
    with ExitStack() as running:

        def begin() -> Service:
            return running.enter_context(Service("analytics", "serve", log=tmp_path / "log", **quick))

        yield begin


@pytest.fixture
def put(s3: S3Client, bucket: str) -> Callable[..., None]:
    """Stores events of a day where the consumer stores them."""

    def store(*events: dict[str, Any], day: str = DAY) -> None:
        for offset, event in enumerate(events):
            key = f"events/{TABLE}/dt={day}/00000-{offset:020d}.json"
            s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(event).encode())

    return store


def ask(service: Endpoint, method: str, path: str, **options: Any) -> httpx.Response:
    url = f"http://127.0.0.1:{service.port}{path}"
    return httpx.request(method, url, timeout=120, verify=NO_TLS, **options)


def partitions(service: Endpoint) -> list[str]:
    """The days that can be queried, oldest first."""
    status, body = service.get(f"/v1/tables/{TABLE}/partitions")
    found = json.loads(body)["partitions"] if status == 200 else []
    return sorted(each["values"][0] for each in found)


def columns(service: Endpoint) -> dict[str, str]:
    found = ask(service, "GET", f"/v1/tables/{TABLE}").json()["columns"]
    return {each["name"]: each["type"] for each in found if not each["partition"]}


def until_catalogued(service: Endpoint, *days: str) -> None:
    wait_for(lambda: partitions(service) == sorted(days), 60, lambda: f"{partitions(service)}\n{service.log}")


def until_unready(service: Endpoint, dependency: str, said: str) -> str:
    """Wait until `/readyz` gives a reason that says this; returns all of it."""
    wait_for(
        lambda: said in service.unready_reasons().get(dependency, ""),
        60,
        lambda: f"{service.unready_reasons()}\n{service.log}",
    )
    return service.unready_reasons()[dependency]


def until_unavailable(service: Endpoint, times: float) -> None:
    """Wait until AWS was unavailable this many times in total."""
    wait_for(
        lambda: service.metric("lakefeed_errors_total", kind="unavailable") >= times, 120, lambda: service.log
    )


def until_ended(service: Endpoint, query: str) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        found: dict[str, Any] = ask(service, "GET", f"/v1/queries/{query}").json()
        return found

    wait_for(lambda: look()["state"] not in ("QUEUED", "RUNNING"), 60)
    return look()


def rows(service: Endpoint, sql: str) -> list[list[Any]]:
    query = ask(service, "POST", "/v1/queries", json={"sql": sql}).json()["id"]
    ended = until_ended(service, query)
    assert ended["state"] == "SUCCEEDED", ended
    found: list[list[Any]] = ask(service, "GET", f"/v1/queries/{query}/rows").json()["rows"]
    return found


def sound(service: Endpoint) -> None:
    """Stopped in order, with nothing unforeseen in its log."""
    assert service.stop() == 0
    assert "Traceback" not in service.log


# ---- AWS away, slow or refusing -----------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "fault", "dependency", "said"),
    [
        ("GetCrawler", error("ThrottlingException", "Rate exceeded"), "glue", "Rate exceeded"),
        ("GetWorkGroup", error("TooManyRequestsException", "Rate exceeded"), "athena", "Rate exceeded"),
        ("S3", s3_error("SlowDown", 503), "bucket", "503"),
        ("StartCrawler", error("ThrottlingException", "Rate exceeded"), "catalogue", "Rate exceeded"),
        ("GetPartitions", error("InternalServiceException", "oh", 500), "catalogue", "oh"),
    ],
)
def test_throttling_is_logged_once_and_retried(
    faulty: FaultyAws,
    start: Start,
    put: Callable[..., None],
    action: str,
    fault: Fault,
    dependency: str,
    said: str,
) -> None:
    put({"a": 1})
    faulty.always(action, fault)
    service = start()
    until_unready(service, dependency, said)
    until_unavailable(service, 2)
    assert service.log.count(f"{dependency} cannot be used") == 1
    assert service.get("/healthz")[0] == 200
    faulty.heal()
    service.wait_ready()
    until_catalogued(service, DAY)
    sound(service)


def test_an_unreachable_aws_is_logged_once_and_recovers(
    faulty: FaultyAws, start: Start, put: Callable[..., None]
) -> None:
    faulty.close()
    service = start()
    until_unready(service, "bucket", "does not answer")
    assert "does not answer" in until_unready(service, "glue", "looking for the Glue database")
    assert service.get("/healthz")[0] == 200
    faulty.open()
    service.wait_ready()
    put({"a": 1})
    until_catalogued(service, DAY)
    for away, back in (
        (faulty.close, faulty.open),
        (lambda: faulty.always("*", reset), faulty.heal),
        (lambda: faulty.always("*", error("InternalFailure", "", 500)), faulty.heal),
    ):
        away()
        until_unready(service, "glue", "looking for the Glue database")
        enough = service.metric("lakefeed_errors_total", kind="unavailable") + 6
        until_unavailable(service, enough)
        assert repeated_reasons(service.log) == []
        answer = ask(service, "GET", "/v1/tables")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.headers["retry-after"]
        assert service.get("/healthz")[0] == 200
        back()
        service.wait_ready()
    put({"a": 2}, day="2026-01-02")
    until_catalogued(service, DAY, "2026-01-02")
    sound(service)


def test_a_restarted_aws_is_used_again(
    start: Start, own_aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", own_aws.endpoint_url)
    service = start(LAKEFEED_CREATE_BUCKET="true")
    service.wait_ready()
    own_aws.stop()
    until_unready(service, "bucket", "does not answer")
    assert service.get("/healthz")[0] == 200
    own_aws.start()
    service.wait_ready()
    assert service.log.count("bucket cannot be used") == 1
    assert rows(service, "SELECT 1 AS n") == [[1]]
    sound(service)


def test_expired_credentials_are_reported_and_new_ones_are_used(
    faulty: FaultyAws, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., None]
) -> None:
    key = os.environ["AWS_ACCESS_KEY_ID"]
    file = tmp_path / "credentials"

    def write(token: str) -> None:
        new = tmp_path / "credentials.new"
        new.write_text(
            f"[default]\naws_access_key_id={key}\naws_secret_access_key=x\naws_session_token={token}\n"
        )
        new.rename(file)

    def expired(call: Call, forward: Forward) -> Answer | None:
        if call.headers["X-Amz-Security-Token"] == "new":
            return forward()
        if call.action == "S3":
            return s3_error("ExpiredToken", 400)(call, forward)
        return error("ExpiredTokenException", "The security token included in the request is expired")(
            call, forward
        )

    monkeypatch.setattr(aws_clients, "_REREAD", timedelta(seconds=1))
    write("old")
    put({"a": 1})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    service = start()
    service.wait_ready()
    faulty.always("*", expired)
    assert "Check the AWS credentials" in until_unready(service, "glue", "is expired")
    assert ask(service, "GET", "/v1/tables").status_code == 502
    write("new")
    service.wait_ready()
    until_catalogued(service, DAY)
    assert service.log.count("glue cannot be used") == 1
    sound(service)


# ---- crawls -------------------------------------------------------------------------------


def test_a_crawl_of_another_client_is_waited_for(
    faulty: FaultyAws, start: Start, put: Callable[..., None]
) -> None:
    put({"a": 1})
    faulty.once("StartCrawler", error("CrawlerRunningException", "Crawler has already started"))
    service = start()
    until_catalogued(service, DAY)
    assert "Waiting for a crawl that is already running" in service.log
    assert len(faulty.made("StartCrawler")) == 2
    sound(service)


def test_two_services_share_a_crawler(
    start: Start, put: Callable[..., None], glue: GlueClient, faulty: FaultyAws
) -> None:
    put({"a": 1})
    services = [start(), start()]
    for service in services:
        service.wait_ready()
        until_catalogued(service, DAY)
    assert [crawler["Name"] for crawler in glue.get_crawlers()["Crawlers"]] == ["lakefeed"]
    for service in services:
        sound(service)


def failing(message: str) -> Callable[[dict[str, Any]], None]:
    """A crawler whose last crawl failed."""

    def edit(answer: dict[str, Any]) -> None:
        if answer["Crawler"].get("LastCrawl"):
            answer["Crawler"]["LastCrawl"] |= {"Status": "FAILED", "ErrorMessage": message}

    return edit


def empty(answer: dict[str, Any]) -> None:
    answer["Partitions"] = []


def test_a_failed_crawl_is_reported_with_advice_and_retried(
    faulty: FaultyAws, start: Start, put: Callable[..., None]
) -> None:
    put({"a": 1})
    faulty.always("GetCrawler", edited(failing("Insufficient Lake Formation permission(s) on s3://lake")))
    faulty.always("GetPartitions", edited(empty))
    service = start()
    reason = until_unready(service, "catalogue", "Insufficient Lake Formation permission")
    assert "Check the permissions of the crawler's role" in reason
    wait_for(lambda: service.metric("lakefeed_analytics_crawls_total", outcome="FAILED") >= 3, 60)
    assert service.log.count("catalogue cannot be used") == 1
    assert service.metric("lakefeed_analytics_folders_pending") == 1
    faulty.heal()
    service.wait_ready()
    wait_for(lambda: service.metric("lakefeed_analytics_folders_pending") == 0, 60)
    assert partitions(service) == [DAY]
    sound(service)


def test_an_endless_crawl_is_reported_and_only_stopped_manually(
    faulty: FaultyAws, start: Start, put: Callable[..., None]
) -> None:
    put({"a": 1})
    service = start(LAKEFEED_CRAWL_TIMEOUT_SECONDS="10")
    service.wait_ready()

    def endless(answer: dict[str, Any]) -> None:
        answer["Crawler"] |= {"State": "RUNNING", "CrawlElapsedTime": 11_000}

    faulty.always("GetCrawler", edited(endless))
    reason = until_unready(service, "catalogue", "the crawl has been running for more than 10 s")
    assert "DELETE /v1/crawls" in reason
    assert faulty.made("StopCrawler") == []
    assert ask(service, "DELETE", "/v1/crawls").status_code == 202
    assert len(faulty.made("StopCrawler")) == 1
    faulty.heal()
    service.wait_ready()
    until_catalogued(service, DAY)
    sound(service)


def test_a_deleted_crawler_is_recreated(
    start: Start, put: Callable[..., None], glue: GlueClient, faulty: FaultyAws
) -> None:
    put({"a": 1})
    service = start()
    until_catalogued(service, DAY)
    wait_for(lambda: glue.get_crawler(Name="lakefeed")["Crawler"]["State"] == "READY")
    glue.delete_crawler(Name="lakefeed")
    put({"a": 1}, day="2026-01-02")
    until_catalogued(service, DAY, "2026-01-02")
    assert service.log.count("created crawler lakefeed") == 2
    sound(service)


def test_a_kill_during_a_crawl_starts_no_second_one(
    faulty: FaultyAws, start_process: StartProcess, put: Callable[..., None], glue: GlueClient
) -> None:
    put(*({"a": number} for number in range(20)))
    # It dies before the call arrives, and then between the call and its answer.
    faulty.once("StartCrawler", never)
    killed = start_process()
    wait_for(lambda: faulty.made("StartCrawler"), 60)
    killed.process.kill()
    killed.process.wait()
    faulty.once("StartCrawler", lost, never)
    killed = start_process()
    wait_for(lambda: glue.list_crawls(CrawlerName="lakefeed")["Crawls"], 60)
    killed.process.kill()
    killed.process.wait()
    service = start_process()
    until_catalogued(service, DAY)
    wait_for(lambda: service.metric("lakefeed_analytics_folders_pending") == 0)
    assert [crawler["Name"] for crawler in glue.get_crawlers()["Crawlers"]] == ["lakefeed"]
    assert len(glue.list_crawls(CrawlerName="lakefeed")["Crawls"]) == 1
    sound(service)


# ---- tables -------------------------------------------------------------------------------


def table_input(glue: GlueClient) -> dict[str, Any]:
    """The table as UpdateTable takes it."""
    table: Any = glue.get_table(DatabaseName="lakefeed", Name=TABLE)["Table"]
    return {
        name: table[name]
        for name in ("Name", "StorageDescriptor", "PartitionKeys", "TableType", "Parameters")
    }


def test_manually_changed_columns_are_reported_and_restored_by_the_next_crawl(
    start: Start, put: Callable[..., None], glue: GlueClient
) -> None:
    put({"a": 1, "b": 2.5})
    service = start()
    until_catalogued(service, DAY)
    service.wait_ready()
    wait_for(lambda: service.metric("lakefeed_analytics_folders_pending") == 0)
    wait_for(lambda: service.metric("lakefeed_analytics_partitions", table=TABLE) == 1)
    changed = table_input(glue)
    changed["StorageDescriptor"]["Columns"] = [{"Name": "b", "Type": "boolean"}]
    glue.update_table(DatabaseName="lakefeed", TableInput=changed)  # type: ignore[arg-type]
    said = f"Table {TABLE} was changed manually: a was removed, b is boolean, was double"
    wait_for(lambda: said in service.log, 30, lambda: service.log)
    assert ask(service, "POST", "/v1/crawls").status_code == 202
    wait_for(lambda: columns(service) == {"a": "int", "b": "double"}, 30, lambda: str(columns(service)))
    assert service.log.count("was changed manually") == 1
    sound(service)


def test_a_manually_moved_table_is_reported_until_it_is_restored(
    start: Start, put: Callable[..., None], glue: GlueClient, bucket: str
) -> None:
    put({"a": 1})
    service = start()
    until_catalogued(service, DAY)
    changed = table_input(glue)
    place = changed["StorageDescriptor"]["Location"]
    changed["StorageDescriptor"]["Location"] = f"s3://{bucket}/elsewhere/"
    glue.update_table(DatabaseName="lakefeed", TableInput=changed)  # type: ignore[arg-type]
    reason = until_unready(service, "catalogue", f"is s3://{bucket}/elsewhere/")
    assert "Restore it, or delete the table" in reason
    changed["StorageDescriptor"]["Location"] = place
    glue.update_table(DatabaseName="lakefeed", TableInput=changed)  # type: ignore[arg-type]
    service.wait_ready()
    sound(service)


def test_a_partition_deleted_by_hand_is_crawled_after_a_restart(
    start: Start, put: Callable[..., None], glue: GlueClient
) -> None:
    put({"a": 1})
    put({"a": 1}, day="2026-01-02")
    service = start()
    until_catalogued(service, DAY, "2026-01-02")
    sound(service)
    glue.delete_partition(DatabaseName="lakefeed", TableName=TABLE, PartitionValues=[DAY])
    service = start()
    until_catalogued(service, DAY, "2026-01-02")
    sound(service)


def test_a_schema_that_drifts_from_day_to_day_gives_working_queries(
    start: Start, put: Callable[..., None]
) -> None:
    put({"a": 1, "b": 1})
    service = start()
    until_catalogued(service, DAY)
    assert columns(service) == {"a": "int", "b": "int"}
    # A new column on a new day.
    put({"a": 2, "b": 2, "c": 0.5}, day="2026-01-02")
    until_catalogued(service, DAY, "2026-01-02")
    assert columns(service) == {"a": "int", "b": "int", "c": "double"}
    assert rows(service, "SELECT a, c FROM demo_testing ORDER BY dt") == [[1, None], [2, 0.5]]
    # Integers become texts.
    put({"a": 3, "b": "three", "c": 1.5}, day="2026-01-03")
    until_catalogued(service, DAY, "2026-01-02", "2026-01-03")
    assert columns(service) == {"a": "int", "b": "string", "c": "double"}
    # The local engine keeps the quotes of a text among numbers.
    assert rows(service, "SELECT count(b) AS n, max(a) AS a FROM demo_testing") == [[3, 3]]
    sound(service)


# ---- queries ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        [error("TooManyRequestsException", "Rate exceeded")] * 2,
        [error("InternalServerException", "oh", 500)],
        [reset],
        [lost],
    ],
    ids=["throttled", "failed", "reset", "answer lost"],
)
def test_a_retried_start_is_one_query(
    faulty: FaultyAws, start: Start, athena: AthenaClient, faults: list[Fault]
) -> None:
    service = start()
    service.wait_ready()
    faulty.once("StartQueryExecution", *faults)
    assert rows(service, "SELECT 1 AS n") == [[1]]
    tokens = {call.arguments["ClientRequestToken"] for call in faulty.made("StartQueryExecution")}
    assert len(faulty.made("StartQueryExecution")) == len(faults) + 1
    assert len(tokens) == 1
    assert len(athena.list_query_executions(WorkGroup="lakefeed")["QueryExecutionIds"]) == 1
    sound(service)


def test_a_start_that_remains_throttled_is_503(faulty: FaultyAws, start: Start) -> None:
    service = start()
    service.wait_ready()
    faulty.always("StartQueryExecution", error("TooManyRequestsException", "Rate exceeded"))
    answer = ask(service, "POST", "/v1/queries", json={"sql": "SELECT 1"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "Rate exceeded" in answer.json()["detail"]
    faulty.heal()
    assert rows(service, "SELECT 1 AS n") == [[1]]
    sound(service)


def ended(state: str, reason: str = "") -> Callable[[dict[str, Any]], None]:
    """A query in this state."""

    def edit(answer: dict[str, Any]) -> None:
        found = answer.get("QueryExecutions") or [answer["QueryExecution"]]
        for query in found:
            query["Status"] |= {"State": state, "StateChangeReason": reason}

    return edit


def test_a_failed_query_has_reason_and_advice(faulty: FaultyAws, start: Start) -> None:
    reason, advice = "HIVE_BAD_DATA: Error parsing field value 'x' for field 1", "Crawl again"
    service = start()
    service.wait_ready()
    for action in ("GetQueryExecution", "BatchGetQueryExecution"):
        faulty.always(action, edited(ended("FAILED", reason)))
    query = ask(service, "POST", "/v1/queries", json={"sql": "SELECT 1"}).json()["id"]
    found = until_ended(service, query)
    assert (found["state"], found["reason"]) == ("FAILED", reason)
    assert advice in found["advice"]
    answer = ask(service, "GET", f"/v1/queries/{query}/rows")
    assert answer.status_code == 409
    assert reason in answer.json()["detail"]
    assert advice in answer.json()["detail"]
    wait_for(lambda: service.metric("lakefeed_analytics_queries_total", query="free", state="FAILED") == 1)
    sound(service)


def test_a_query_in_athenas_queue_is_cancelled_eventually(faulty: FaultyAws, start: Start) -> None:
    service = start(LAKEFEED_QUERY_TIMEOUT_SECONDS="2")
    service.wait_ready()
    for action in ("GetQueryExecution", "BatchGetQueryExecution"):
        faulty.always(action, edited(ended("QUEUED")))
    query = ask(service, "POST", "/v1/queries", json={"sql": "SELECT 1"}).json()["id"]
    assert ask(service, "GET", f"/v1/queries/{query}").json()["state"] == "QUEUED"
    assert ask(service, "GET", f"/v1/queries/{query}/rows").status_code == 409
    wait_for(lambda: faulty.made("StopQueryExecution"), 30, lambda: service.log)
    assert "Athena has not started it within 2 s" in service.log
    faulty.heal()
    wait_for(lambda: service.metric("lakefeed_analytics_queries_running") == 0)
    sound(service)


def test_the_watch_over_queries_slows_down_while_athena_does_not_tell(
    faulty: FaultyAws, start: Start
) -> None:
    service = start()
    service.wait_ready()
    faulty.always("BatchGetQueryExecution", error("TooManyRequestsException", "Rate exceeded"))
    query = ask(service, "POST", "/v1/queries", json={"sql": "SELECT 1"}).json()["id"]
    until_unavailable(service, 2)
    assert service.log.count("The status of the queries is unknown") == 1
    faulty.heal()
    wait_for(
        lambda: service.metric("lakefeed_analytics_queries_total", query="free", state="SUCCEEDED") == 1, 60
    )
    assert until_ended(service, query)["state"] == "SUCCEEDED"
    sound(service)


def test_a_missing_bucket_for_results_is_reported_before_any_query(
    start: Start, s3: S3Client, bucket: str
) -> None:
    service = start(LAKEFEED_RESULTS_LOCATION=f"s3://{bucket}-results/")
    reason = until_unready(service, "athena", f"there is no bucket {bucket}-results")
    assert "LAKEFEED_RESULTS_LOCATION" in reason
    s3.create_bucket(Bucket=f"{bucket}-results")
    service.wait_ready()
    assert rows(service, "SELECT 1 AS n") == [[1]]
    sound(service)


def test_a_bucket_that_refuses_results_is_reported(faulty: FaultyAws, start: Start) -> None:
    service = start()
    service.wait_ready()
    message = "Unable to verify/create output bucket lake. Access denied"
    faulty.always("StartQueryExecution", error("InvalidRequestException", message))
    answer = ask(service, "POST", "/v1/queries", json={"sql": "SELECT 1"})
    assert answer.status_code == 502
    assert message in answer.json()["detail"]
    assert "LAKEFEED_RESULTS_LOCATION" in answer.json()["detail"]
    sound(service)


def test_expired_results_are_404_and_not_an_error(faulty: FaultyAws, start: Start) -> None:
    service = start()
    service.wait_ready()
    query = ask(service, "POST", "/v1/queries", json={"sql": "SELECT 1"}).json()["id"]
    until_ended(service, query)
    faulty.always("GetQueryResults", error("InvalidRequestException", "Could not find results"))
    answer = ask(service, "GET", f"/v1/queries/{query}/rows")
    assert answer.status_code == 404
    assert "Run the query again" in answer.json()["detail"]
    sound(service)


def test_a_query_outlives_the_service(faulty: FaultyAws, start_process: StartProcess) -> None:
    killed = start_process()
    killed.wait_ready()
    done, running = (ask(killed, "POST", "/v1/queries", json={"sql": NUMBERS}).json()["id"] for _ in range(2))
    until_ended(killed, done)
    for action in ("GetQueryExecution", "BatchGetQueryExecution"):
        faulty.always(action, edited(of_query(running, ended("RUNNING"))))
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    service = start_process()
    service.wait_ready()
    assert until_ended(service, done)["state"] == "SUCCEEDED"
    assert ask(service, "GET", f"/v1/queries/{done}/rows").json()["rows"] == NUMBER_ROWS
    assert ask(service, "GET", f"/v1/queries/{running}").json()["state"] == "RUNNING"
    assert ask(service, "DELETE", f"/v1/queries/{running}").status_code == 202
    assert [call.arguments["QueryExecutionId"] for call in faulty.made("StopQueryExecution")] == [running]
    sound(service)


def of_query(query: str, edit: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """The same edit of the answers about one query alone."""

    def edit_one(answer: dict[str, Any]) -> None:
        for found in answer.get("QueryExecutions") or [answer["QueryExecution"]]:
            if found["QueryExecutionId"] == query:
                edit({"QueryExecution": found})

    return edit_one


# ---- liveness -----------------------------------------------------------------------------


def test_a_slow_glue_is_not_a_stall(faulty: FaultyAws, start: Start) -> None:
    service = start()
    service.wait_ready()
    calls = len(faulty.made("GetCrawler"))
    faulty.once("GetCrawler", late(3))
    wait_for(lambda: len(faulty.made("GetCrawler")) > calls)
    states: set[int] = set()

    def went_on() -> bool:
        states.add(service.get("/healthz")[0])
        return len(faulty.made("GetCrawler")) > calls + 1

    wait_for(went_on)
    assert states == {200}
    # The late answer was taken, and not asked for again.
    assert all("attempt=1;" in call.headers["amz-sdk-request"] for call in faulty.made("GetCrawler"))
    sound(service)


def test_a_hanging_work_loop_is_detected(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(CrawlKeeper, "check", lambda _: ended.wait())
    service = start(LAKEFEED_STALL_SECONDS="2")
    try:
        wait_for(lambda: ask(service, "GET", "/v1/tables").status_code == 200)

        def hung() -> bool:
            """Asked for a table meanwhile, as the calls to AWS for that do not count as the loop's."""
            assert ask(service, "GET", "/v1/tables").status_code == 200
            return service.get("/healthz")[0] == 503

        wait_for(hung, 30, lambda: service.get("/healthz")[1].decode())
        reasons = json.loads(service.get("/healthz")[1])["reasons"]
        assert list(reasons) == ["crawl-loop"]
        assert re.fullmatch(r"silent for \d+ s.*", reasons["crawl-loop"])
        assert ask(service, "GET", "/v1/tables").status_code == 200
        assert service.stop() == 0
    finally:
        ended.set()
