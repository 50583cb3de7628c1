"""The HTTP API. Endpoints are plain functions, which FastAPI runs in threads, because boto3 blocks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Response
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lakefeed_analytics import documentation, models, problems
from lakefeed_analytics.athena import wait_for_query
from lakefeed_analytics.catalogue import table_to_query
from lakefeed_analytics.metrics import FREE, SAMPLE, AnalyticsMetrics
from lakefeed_analytics.origin import OwnOrigin
from lakefeed_analytics.parts import Parts
from lakefeed_analytics.problems import documented
from lakefeed_analytics.queries import NamedQueries
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_analytics.statements import reading, sample
from lakefeed_analytics.watch import QueryWatch
from lakefeed_common.health import Health, Report
from lakefeed_common.web import body

log = logging.getLogger(__name__)

_METHODS = {"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"}
_LONGEST_SAMPLE_SECONDS = 60.0
# The longest statement with each character escaped as `\u0000`, plus a margin.
_MAX_BODY_BYTES = 2_000_000

Name = Annotated[str, Path(max_length=255)]
QueryId = Annotated[str, Path(alias="id", max_length=128)]


@dataclass(frozen=True)
class Context:
    """Dependencies of the endpoints; `wake` triggers a round of the work loop."""

    parts: Parts
    named: NamedQueries
    watch: QueryWatch
    metrics: AnalyticsMetrics
    health: Health
    settings: AnalyticsSettings
    wake: Callable[[], None]


def build(context: Context) -> FastAPI:
    """Build the FastAPI app."""
    app = FastAPI(
        title="Lakefeed analytics",
        description="Crawls stored events into the Glue catalogue and queries them with Athena.",
        version="1",
        # The built-in pages load scripts and images from other hosts; see `documentation`.
        docs_url=None,
        redoc_url=None,
        openapi_tags=[
            {"name": "crawls", "description": "Start, stop and list crawls."},
            {"name": "tables", "description": "Tables and partitions in the catalogue."},
            {
                "name": "queries",
                "description": "Run SQL: start a query, check its status, read its rows, cancel it.",
            },
            {"name": "named queries", "description": "Predefined queries."},
            {"name": "operation", "description": "Health and metrics."},
        ],
    )
    for routes in (_crawls, _tables, _queries, _named_queries, _operation):
        app.include_router(routes(context))
    app.include_router(documentation.routes())
    problems.install(app, context.metrics.count_error)
    app.add_middleware(OwnOrigin, settings=context.settings)
    app.add_middleware(_Instrumented, metrics=context.metrics)
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        schema = plain()
        schema["components"]["schemas"]["Problem"] = problems.Problem.model_json_schema()
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _crawls(context: Context) -> APIRouter:
    router = APIRouter(prefix="/v1/crawls", tags=["crawls"])
    crawler = context.parts.crawler

    @router.post("", status_code=202, responses=documented(404))
    def start_crawl() -> models.CrawlStarted:
        """Start a crawl, or join the running one."""
        started = crawler.start()
        context.wake()
        return models.CrawlStarted(started=started)

    @router.delete("", status_code=202, responses=documented(404))
    def stop_crawl() -> models.CrawlStopped:
        """Request the running crawl to stop, regardless of who started it."""
        stopped = crawler.stop()
        context.wake()
        return models.CrawlStopped(stopped=stopped)

    @router.get("", responses=documented(404))
    def list_crawls(limit: Annotated[int, Query(ge=1, le=100)] = 20) -> models.CrawlerOut:
        """The crawler's state and its latest crawls."""
        status = crawler.status()
        return models.CrawlerOut(
            state=status.state,
            running_seconds=status.running_seconds,
            crawls=[models.CrawlOut.of(crawl) for crawl in crawler.history(limit)],
        )

    return router


def _tables(context: Context) -> APIRouter:
    router = APIRouter(prefix="/v1/tables", tags=["tables"])
    catalogue = context.parts.catalogue

    @router.get("", responses=documented())
    def list_tables() -> models.Tables:
        """List all tables with their columns."""
        return models.Tables(tables=[models.TableOut.of(table) for table in catalogue.tables()])

    @router.get("/{name}", responses=documented(404))
    def get_table(name: Name) -> models.TableOut:
        """Get a table with its columns."""
        return models.TableOut.of(catalogue.table(name))

    @router.get("/{name}/partitions", responses=documented(404))
    def list_partitions(
        name: Name,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    ) -> models.Partitions:
        """List the partitions of a table, newest first."""
        found = catalogue.partitions(name)[::-1]
        return models.Partitions(
            total=len(found),
            partitions=[
                models.PartitionOut(values=list(each.values), location=each.location)
                for each in found[offset : offset + limit]
            ],
        )

    @router.get("/{name}/sample", responses=documented(404, 409))
    def sample_rows(name: Name, rows: Annotated[int, Query(ge=1, le=100)] = 10) -> models.Rows:
        """Get some rows of a table. This runs a query, which Athena bills."""
        table = catalogue.table(name)
        query = context.watch.start(sample(table.name, rows), SAMPLE)
        limit = min(context.settings.query_timeout_seconds, _LONGEST_SAMPLE_SECONDS)
        wait_for_query(context.parts.engine, query, limit)
        # One more for Athena's header row.
        return models.Rows.of(context.parts.engine.page(query, None, rows + 1))

    return router


def _queries(context: Context) -> APIRouter:
    router = APIRouter(prefix="/v1/queries", tags=["queries"])
    engine, price = context.parts.engine, context.settings.price_per_terabyte_usd

    @router.post("", status_code=202, responses=documented(400, 413))
    def run_query(query: models.QueryIn, response: Response) -> models.QueryStarted:
        """Start a query. Only a single read-only statement is accepted."""
        return _start(context, reading(query.sql), FREE, response)

    @router.get("", responses=documented())
    def list_queries(limit: Annotated[int, Query(ge=1, le=50)] = 20) -> models.Queries:
        """List the latest queries of the workgroup."""
        return models.Queries(queries=[models.QueryOut.of(each, price) for each in engine.recent(limit)])

    @router.get("/{id}", responses=documented(404))
    def get_query(query: QueryId) -> models.QueryOut:
        """Get the status of a query. A failed query is a successful response."""
        return models.QueryOut.of(engine.status(query), price)

    @router.get("/{id}/rows", responses=documented(404, 409))
    def read_rows(
        query: QueryId,
        page: Annotated[
            str | None, Query(description="`next_page` of the previous page.", min_length=1, max_length=4096)
        ] = None,
        limit: Annotated[
            int,
            Query(ge=2, le=1000, description="Maximum rows per page; the first page may have one fewer."),
        ] = 1000,
    ) -> models.Rows:
        """Read the rows of a succeeded query."""
        return models.Rows.of(engine.page(query, page, limit))

    @router.delete("/{id}", status_code=202, responses=documented(404))
    def cancel_query(query: QueryId) -> models.QueryOut:
        """Cancel a query. A query that has ended is not changed."""
        engine.cancel(query)
        return models.QueryOut.of(engine.status(query), price)

    return router


def _named_queries(context: Context) -> APIRouter:
    router = APIRouter(prefix="/v1/named-queries", tags=["named queries"])

    @router.get("", responses=documented())
    def list_named_queries() -> models.NamedQueries:
        """List all named queries."""
        return models.NamedQueries(queries=[models.NamedQueryOut.of(each) for each in context.named])

    @router.get("/{name}", responses=documented(404))
    def get_named_query(name: Name) -> models.NamedQueryOut:
        """Get a named query."""
        return models.NamedQueryOut.of(context.named.get(name))

    @router.post("/{name}/run", status_code=202, responses=documented(400, 404, 413))
    def run_named_query(
        name: Name, response: Response, run: models.RunIn | None = None
    ) -> models.QueryStarted:
        """Start a named query on a table."""
        named = context.named.get(name)
        wanted = (run.table if run else None) or None
        table = table_to_query(context.parts.catalogue, context.settings, wanted)
        return _start(context, named.over(table.name), named.name, response)

    return router


def _start(context: Context, sql: str, label: str, response: Response) -> models.QueryStarted:
    query = context.watch.start(sql, label)
    response.headers["Location"] = f"/v1/queries/{query}"
    return models.QueryStarted(id=query, sql=sql)


def _operation(context: Context) -> APIRouter:
    router = APIRouter(tags=["operation"])
    # These are coroutines, because all threads may be waiting for AWS.

    @router.get("/healthz", responses={503: {"description": "The work loop has stalled."}})
    async def health() -> Response:
        """Whether the work loop is running."""
        return _report(context.health.liveness())

    @router.get("/readyz", responses={503: {"description": "Glue, Athena or the bucket cannot be used."}})
    async def readiness() -> Response:
        """Whether Glue, Athena and the bucket can be used, with reasons if not."""
        return _report(context.health.readiness())

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Metrics in Prometheus's text format."""
        return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @router.get("/", include_in_schema=False)
    async def index() -> dict[str, str]:
        return {
            "documentation": "/docs",
            "openapi": "/openapi.json",
            "metrics": "/metrics",
            "ready": "/readyz",
        }

    return router


def _report(report: Report) -> Response:
    return Response(body(report), report.status, media_type="application/json")


class _Instrumented:
    """Counts requests, limits their bodies, and answers unexpected exceptions with a problem."""

    def __init__(self, app: ASGIApp, metrics: AnalyticsMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, size = time.perf_counter(), 0, 0

        async def receive_bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > _MAX_BODY_BYTES:
                raise HTTPException(413, f"the body is longer than {_MAX_BODY_BYTES} bytes")
            return message

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive_bounded, send_counted)
        except Exception as error:
            self._metrics.count_error(error)
            log.exception("Unexpected error in %s %s", scope["method"], scope["path"])
            if not status:
                await problems.respond(problems.internal())(scope, receive, send_counted)
        finally:
            self._count(scope, status, time.perf_counter() - start)

    def _count(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.http_requests.labels(method, route, str(status)).inc()
        self._metrics.http_seconds.labels(method, route).observe(seconds)
