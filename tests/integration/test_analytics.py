"""The analytics service against Glue, S3 and Athena: ensure, crawl, query, the shell and the server."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest

from lakefeed_analytics import cli
from lakefeed_analytics.athena import wait_for_query
from lakefeed_analytics.crawl import wait_for_crawl
from lakefeed_analytics.parts import Parts, connect
from lakefeed_analytics.queries import NamedQueries
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.settings import load
from tests.helpers.analytics.contracts import NUMBERS
from tests.helpers.analytics.lake import NO_TLS
from tests.helpers.analytics.running import RunningAnalytics
from tests.helpers.commands import Ended, in_process
from tests.helpers.services import Endpoint, Service
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client

TICKERS = ("AAPL", "IBM", "MSFT")
DAYS = 45
STORED_ON = ("2026-01-01", "2026-01-02")


def price(ticker: str, day: int) -> float:
    """A made-up close that rises and falls."""
    return round(100 + 10 * TICKERS.index(ticker) + 8 * math.sin(day / 3 + TICKERS.index(ticker)), 2)


def events() -> Iterator[dict[str, Any]]:
    """Rows of the sample data's shape."""
    for ticker in TICKERS:
        for day in range(DAYS):
            close = price(ticker, day)
            yield {
                "ticker": ticker,
                "date": (date(2024, 1, 1) + timedelta(day)).isoformat(),
                "open": close - 0.5,
                "high": close + 1,
                "low": close - 1,
                "close": close,
                "volume": 1000 * (TICKERS.index(ticker) + 1) + day,
                "adj_close": close,
            }


def store(s3: S3Client, bucket: str, topic: str = "demo_testing", prefix: str = "events") -> None:
    """Put the events where the consumer puts them, on two days."""
    for offset, event in enumerate(events()):
        key = f"{prefix}/{topic}/dt={STORED_ON[offset % 2]}/00000-{offset:020d}.json"
        s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(event).encode())


@pytest.fixture
def settings(aws: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> AnalyticsSettings:
    # boto3's default session would keep the credentials of the first test.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name in [name for name in os.environ if name.startswith("LAKEFEED_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAKEFEED_BUCKET", bucket)
    return load(AnalyticsSettings)


@pytest.fixture
def parts(settings: AnalyticsSettings) -> Iterator[Parts]:
    with connect(settings) as parts:
        yield parts


def ensure(parts: Parts) -> list[str]:
    return [str(change) for step in parts.ensure.values() for change in step()]


@pytest.fixture
def crawled(parts: Parts, s3: S3Client, settings: AnalyticsSettings) -> Parts:
    """The parts, with the events stored and crawled."""
    store(s3, settings.bucket)
    ensure(parts)
    parts.crawler.start()
    wait_for_crawl(parts.crawler, 60)
    return parts


@pytest.fixture
def command(
    settings: AnalyticsSettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ended]:
    """Runs `lakefeed-analytics` in this process; the demo runs it as it is installed."""
    return partial(in_process, cli.main, capsys, monkeypatch)


# ---- ensure -------------------------------------------------------------------------------


def test_ensure_creates_all_once(
    parts: Parts, settings: AnalyticsSettings, glue: GlueClient, athena: AthenaClient
) -> None:
    assert ensure(parts) == [
        "created Glue database lakefeed",
        "created crawler lakefeed",
        "created workgroup lakefeed",
    ]
    assert ensure(parts) == []
    crawler = glue.get_crawler(Name="lakefeed")["Crawler"]
    assert crawler["Targets"]["S3Targets"][0]["Path"] == f"s3://{settings.bucket}/events/demo_testing/"
    assert "CombineCompatibleSchemas" in crawler["Configuration"]
    group = athena.get_work_group(WorkGroup="lakefeed")["WorkGroup"]["Configuration"]
    assert group["ResultConfiguration"]["OutputLocation"] == f"s3://{settings.bucket}/athena-results/"
    assert group["EnforceWorkGroupConfiguration"] is True
    assert group["BytesScannedCutoffPerQuery"] == 10_000_000_000


def test_changed_settings_update_what_is_there(
    parts: Parts, settings: AnalyticsSettings, glue: GlueClient, athena: AthenaClient
) -> None:
    ensure(parts)
    changed = settings.model_copy(
        update={
            "topics": "demo_testing,other",
            "crawler_schedule": "cron(15 0 * * ? *)",
            "query_bytes_limit": 20_000_000,
            "results_location": f"s3://{settings.bucket}/elsewhere/",
        }
    )
    with connect(changed) as other:
        assert ensure(other) == [
            "updated crawler lakefeed: Targets, Schedule",
            "updated workgroup lakefeed: ResultConfiguration, BytesScannedCutoffPerQuery",
        ]
        assert ensure(other) == []
    crawler = glue.get_crawler(Name="lakefeed")["Crawler"]
    assert len(crawler["Targets"]["S3Targets"]) == 2
    assert crawler["Schedule"]["ScheduleExpression"] == "cron(15 0 * * ? *)"
    # Back again, the schedule goes.
    assert ensure(parts) == [
        "updated crawler lakefeed: Targets, Schedule",
        "updated workgroup lakefeed: ResultConfiguration, BytesScannedCutoffPerQuery",
    ]
    assert ensure(parts) == []
    group = athena.get_work_group(WorkGroup="lakefeed")["WorkGroup"]["Configuration"]
    assert group["BytesScannedCutoffPerQuery"] == 10_000_000_000


def test_a_missing_bucket_is_created_when_asked(settings: AnalyticsSettings, s3: S3Client) -> None:
    wanted = settings.model_copy(update={"bucket": settings.bucket + "-new", "create_bucket": True})
    with connect(wanted) as parts:
        assert ensure(parts)[0] == f"created bucket {wanted.bucket}"
        assert ensure(parts) == []
    s3.head_bucket(Bucket=wanted.bucket)


# ---- crawl and query ----------------------------------------------------------------------


@pytest.mark.smoke
def test_a_crawl_makes_the_table(crawled: Parts) -> None:
    [table] = crawled.catalogue.tables()
    assert table.name == "demo_testing"
    types = {column.name: column.type for column in table.columns}
    # Glue takes the narrowest type of integers that holds all that it saw.
    assert types.pop("volume") in ("int", "bigint")
    assert types == {
        "ticker": "string",
        "date": "string",
        "open": "double",
        "high": "double",
        "low": "double",
        "close": "double",
        "adj_close": "double",
        "dt": "string",
    }
    assert [partition.values for partition in crawled.catalogue.partitions("demo_testing")] == [
        (day,) for day in STORED_ON
    ]


def rows_of(parts: Parts, sql: str) -> list[dict[str, Any]]:
    query = parts.engine.start(sql)
    wait_for_query(parts.engine, query, 60)
    page = parts.engine.page(query, None, 1000)
    assert page.next is None
    return [dict(zip((column.name for column in page.columns), row, strict=True)) for row in page.rows]


def test_the_named_queries_say_what_is_so(crawled: Parts, settings: AnalyticsSettings) -> None:
    named = NamedQueries(settings.queries_folder)
    answers = {query.name: rows_of(crawled, query.over("demo_testing")) for query in named}
    assert all(answers.values())
    last = price("AAPL", DAYS - 1)
    change = 100 * (last - price("AAPL", DAYS - 2)) / price("AAPL", DAYS - 2)
    assert answers["latest_price"][0] == {
        "ticker": "AAPL",
        "day": "2024-02-14",
        "close": last,
        "change_percent": pytest.approx(change, abs=0.006),
    }
    january = [price("AAPL", day) for day in range(31)]
    month = answers["monthly_average"][0]
    assert (month["month"], month["days"]) == ("2024-01", 31)
    assert month["average_close"] == pytest.approx(sum(january) / 31, abs=1e-4)
    assert (month["lowest_close"], month["highest_close"]) == (min(january), max(january))
    changes = {day: price("IBM", day) / price("IBM", day - 1) - 1 for day in range(1, DAYS)}
    best, worst = max(changes, key=lambda day: changes[day]), min(changes, key=lambda day: changes[day])
    ibm = answers["best_and_worst_day"][1]
    assert ibm["best_day"] == (date(2024, 1, 1) + timedelta(best)).isoformat()
    assert ibm["worst_day"] == (date(2024, 1, 1) + timedelta(worst)).isoformat()
    assert ibm["best_percent"] == pytest.approx(100 * changes[best], abs=0.006)
    moving = answers["moving_average"]
    assert len(moving) == DAYS * len(TICKERS)
    assert moving[18]["average_20_days"] is None
    assert moving[19]["average_20_days"] == pytest.approx(sum(january[:20]) / 20, abs=1e-4)
    assert moving[20]["average_20_days"] == pytest.approx(sum(january[1:21]) / 20, abs=1e-4)
    returns = [math.log(price("AAPL", day) / price("AAPL", day - 1)) for day in range(1, DAYS)]
    mean = sum(returns) / len(returns)
    deviation = math.sqrt(sum((each - mean) ** 2 for each in returns) / (len(returns) - 1))
    volatility = {row["ticker"]: row for row in answers["volatility"]}["AAPL"]
    assert volatility["days"] == DAYS - 1
    assert volatility["yearly_percent"] == pytest.approx(100 * deviation * math.sqrt(252), abs=1e-3)
    leaders = answers["volume_leaders"]
    assert [row["ticker"] for row in leaders] == ["MSFT", "IBM", "AAPL"]
    assert leaders[0]["total_volume"] == sum(3000 + day for day in range(DAYS))
    assert sum(row["share_percent"] for row in leaders) == pytest.approx(100, abs=0.02)
    assert leaders[0]["busiest_day"] == "2024-02-14"
    assert [row["day"] for row in answers["events_a_day"]] == list(STORED_ON)
    assert sum(row["events"] for row in answers["events_a_day"]) == DAYS * len(TICKERS)
    assert answers["events_a_day"][0]["companies"] == len(TICKERS)


def test_the_named_queries_ignore_values_that_are_not_numbers(
    parts: Parts, s3: S3Client, settings: AnalyticsSettings
) -> None:
    days = [(1, "10.0", "100"), (2, "null", "null"), (3, "NaN", "n/a"), (4, None, None), (5, "12.5", "300.0")]
    for number, close, volume in days:
        event = {"ticker": "X", "date": f"2024-01-0{number}", "close": close, "volume": volume}
        key = f"events/demo_testing/dt={STORED_ON[0]}/00000-{number:020d}.json"
        s3.put_object(Bucket=settings.bucket, Key=key, Body=json.dumps(event).encode())
    ensure(parts)
    parts.crawler.start()
    wait_for_crawl(parts.crawler, 60)
    named = NamedQueries(settings.queries_folder)
    answers = {query.name: rows_of(parts, query.over("demo_testing")) for query in named}
    assert answers["latest_price"] == [
        {"ticker": "X", "day": "2024-01-05", "close": 12.5, "change_percent": 25.0}
    ]
    [month] = answers["monthly_average"]
    assert (month["days"], month["average_close"], month["volume"]) == (2, 11.25, 400)
    assert [row["day"] for row in answers["moving_average"]] == ["2024-01-01", "2024-01-05"]
    assert answers["best_and_worst_day"][0]["best_percent"] == 25
    assert answers["volatility"][0]["days"] == 1
    [leader] = answers["volume_leaders"]
    assert (leader["days"], leader["total_volume"], leader["busiest_day"]) == (2, 400, "2024-01-05")


# ---- the shell ----------------------------------------------------------------------------


def test_the_shell_from_ensure_to_rows(
    command: Callable[..., Ended], settings: AnalyticsSettings, s3: S3Client
) -> None:
    store(s3, settings.bucket)
    done = command("crawl")
    assert done.code == 0, done.err
    assert "table demo_testing: 9 columns, 2 partitions" in done.out
    assert "crawling: started" in done.err
    done = command("ensure")
    assert (done.code, done.out) == (0, "everything matches the settings\n")

    sql = "SELECT ticker, count(*) AS events FROM demo_testing GROUP BY ticker ORDER BY ticker"
    done = command("query", sql, "--format", "csv")
    assert done.code == 0, done.err
    assert done.out == "ticker,events\nAAPL,45\nIBM,45\nMSFT,45\n"
    done = command("query", "-", "--format", "json", stdin=f"-- from a file\n{sql};\n")
    assert json.loads(done.out)[1] == {"ticker": "IBM", "events": 45}
    done = command("query", sql)
    assert re.search(r"IBM +│ +45", done.out)

    done = command("query", "--name", "moving_average", "--format", "csv", "--limit", "5")
    assert len(list(csv.DictReader(io.StringIO(done.out)))) == 5
    assert "only the first 5 rows" in done.err
    done = command("tables", "--format", "json")
    assert json.loads(done.out)[0]["table"] == "demo_testing"
    done = command("tables", "demo_testing", "--partitions", "--format", "csv")
    assert done.out.splitlines()[0] == "dt,location"
    done = command("tables", "demo_testing", "--rows", "3", "--format", "csv")
    assert len(done.out.splitlines()) == 4


def test_failures_of_the_shell(command: Callable[..., Ended], parts: Parts) -> None:
    ensure(parts)
    for arguments, code, said in (
        (("query", "SELECT * FROM no_such_table"), 1, "the query failed"),
        (("query", "DROP TABLE x"), 1, "only read-only statements"),
        (("tables", "nope"), 1, "there is no table 'nope'"),
        (("query", "--name", "volatility"), 1, "there is no table 'demo_testing'"),
        (("query",), 2, "either a statement or --name"),
    ):
        done = command(*arguments)
        assert done.code == code, (arguments, done.err)
        assert said in " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.err).split()), done.err
        assert "Traceback" not in done.err
        assert done.out == ""


def test_an_aws_that_does_not_answer(command: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    done = command("tables")
    assert done.code == 1
    assert "http://127.0.0.1:9 does not answer" in done.err
    assert "Traceback" not in done.err


# ---- the server ---------------------------------------------------------------------------


QUICK = {"LAKEFEED_CRAWL_POLL_SECONDS": "0.5", "LAKEFEED_CRAWL_MIN_INTERVAL_SECONDS": "0"}


def client(service: Endpoint) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{service.port}", verify=NO_TLS, timeout=60)


def until(http: httpx.Client, series: str, value: float) -> None:
    """Wait until a metric has a value."""
    line = re.compile(rf"^{re.escape(series)} (\S+)$", re.MULTILINE)

    def reached() -> bool:
        found = line.search(http.get("/metrics").text)
        return found is not None and float(found[1]) == value

    wait_for(reached, 60, lambda: f"{series} {value}:\n{http.get('/metrics').text}", every=0.2)


def until_state(http: httpx.Client, query: str, state: str) -> None:
    """Wait until a query is in a state."""
    wait_for(lambda: http.get(f"/v1/queries/{query}").json()["state"] == state, 60, every=0.2)


@pytest.mark.smoke
def test_the_server_from_objects_to_rows(settings: AnalyticsSettings, s3: S3Client, tmp_path: Path) -> None:
    service = Service("analytics", "serve", log=tmp_path / "log", **QUICK)
    with service, client(service) as http:
        service.wait_ready()
        assert http.get("/v1/tables").json() == {"tables": []}
        # Objects arrive: the service finds the folder and crawls by itself.
        store(s3, settings.bucket)
        wait_for(lambda: http.get("/v1/tables").json()["tables"], 60, lambda: service.log, every=0.2)
        until(http, 'lakefeed_analytics_partitions{table="demo_testing"}', 2)
        until(http, "lakefeed_analytics_folders_pending", 0)
        assert http.get("/v1/tables/demo_testing/partitions").json()["total"] == 2
        assert len(http.get("/v1/tables/demo_testing/sample?rows=3").json()["rows"]) == 3
        assert http.get("/v1/crawls").json()["crawls"][0]["outcome"] == "SUCCEEDED"

        run = http.post("/v1/named-queries/moving_average/run").json()
        until_state(http, run["id"], "SUCCEEDED")
        rows, page = [], None
        for _ in range(DAYS * len(TICKERS)):
            answer = http.get(
                f"/v1/queries/{run['id']}/rows", params={"limit": 50} | ({"page": page} if page else {})
            ).json()
            rows += answer["rows"]
            page = answer["next_page"]
            if page is None:
                break
        assert len(rows) == DAYS * len(TICKERS)
        assert [column["type"] for column in answer["columns"]] == ["varchar", "varchar", "double", "double"]
        until(http, 'lakefeed_analytics_queries_total{query="moving_average",state="SUCCEEDED"}', 1)
        assert http.get("/healthz").json() == {"ok": True, "reasons": {}}

        assert service.stop() == 0
    assert "Traceback" not in service.log


def test_a_new_day_is_crawled_and_an_old_one_is_not(
    settings: AnalyticsSettings, crawled: Parts, s3: S3Client, tmp_path: Path
) -> None:
    key = "events/demo_testing/dt={}/00000-{:020d}.json"
    body = json.dumps(next(events())).encode()
    service = RunningAnalytics(tmp_path / "log", **QUICK)
    with service, client(service) as http:
        until(http, 'lakefeed_analytics_partitions{table="demo_testing"}', 2)
        # One more object of a known day is seen by queries at once, without a crawl.
        s3.put_object(Bucket=settings.bucket, Key=key.format(STORED_ON[0], 5000), Body=body)
        [row] = rows_of(crawled, "SELECT count(*) AS n FROM demo_testing")
        assert row == {"n": DAYS * len(TICKERS) + 1}
        s3.put_object(Bucket=settings.bucket, Key=key.format("2026-01-03", 5001), Body=body)
        until(http, 'lakefeed_analytics_partitions{table="demo_testing"}', 3)
        assert service.stop() == 0
    started = [line for line in service.log.splitlines() if "started a crawl" in line]
    assert len(started) == 1
    assert "demo_testing 2026-01-03" in started[0]


def test_numbers_over_the_api(settings: AnalyticsSettings, tmp_path: Path) -> None:
    service = RunningAnalytics(tmp_path / "log", **QUICK)
    with service, client(service) as http:
        service.wait_ready()
        query = http.post("/v1/queries", json={"sql": NUMBERS}).json()["id"]
        until_state(http, query, "SUCCEEDED")
        rows = http.get(f"/v1/queries/{query}/rows").json()["rows"]
        assert rows[:3] == [[0, 0.0, True, None], [1, 0.5, False, ""], [2, 1.0, True, "x"]]
        failed = http.post("/v1/queries", json={"sql": "SELECT * FROM nope"}).json()["id"]
        until_state(http, failed, "FAILED")
        answer = http.get(f"/v1/queries/{failed}/rows")
        assert (answer.status_code, answer.json()["status"]) == (409, 409)
        assert "nope" in answer.json()["detail"]
        assert service.stop() == 0
