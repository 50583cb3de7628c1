"""The crawl service: takes crawlers that were started, crawls, and reports how it ended.

Speaks to the local AWS of `lakefeed_local.aws`, whose launcher holds a crawler in RUNNING until its crawl
has been reported. Crawlers of all accounts and regions are served.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lakefeed_common.aws import explain
from lakefeed_common.errors import LakefeedError, RefusedError, SettingsError, UnavailableError
from lakefeed_common.health import Health
from lakefeed_local.catalogue import Catalogue, Changes
from lakefeed_local.crawler import Definition, Finder, FoundTable
from lakefeed_local.metrics import LocalMetrics
from lakefeed_local.settings import LocalSettings

log = logging.getLogger(__name__)

# The launcher's answer to a question for work is held back for this long while there is none.
_WAIT_SECONDS = 1.0
_BEAT_SECONDS = 0.25
_RETRY_SECONDS = 1.0


class CancelledError(LakefeedError):
    """StopCrawler was called during the crawl."""


class CrawlApi:
    """The three actions that the launcher adds to the Glue API.

    Raises:
        UnavailableError: the local AWS does not answer.
        RefusedError: what answers is not the local AWS of this package.
    """

    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url

    def claim(self) -> dict[str, Any] | None:
        """A crawl to do, or None after a while."""
        crawl: dict[str, Any] | None = self._call("LakefeedClaimCrawl", WaitSeconds=_WAIT_SECONDS).get(
            "Crawl"
        )
        return crawl

    def beat(self, crawl_id: str) -> bool:
        """Say that a crawl goes on; False when it should not."""
        return bool(self._call("LakefeedBeatCrawl", CrawlId=crawl_id)["Continue"])

    def finish(self, crawl_id: str, status: str, message: str, changes: Changes) -> None:
        """Report the end: SUCCEEDED, FAILED or CANCELLED."""
        self._call(
            "LakefeedFinishCrawl",
            CrawlId=crawl_id,
            Status=status,
            ErrorMessage=message,
            Counts=changes.counts(),
            Summary=changes.summary(),
        )

    def _call(self, action: str, **body: Any) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the address is checked by the settings
            self._endpoint_url,
            json.dumps(body).encode(),
            {"X-Amz-Target": f"AWSGlue.{action}", "Content-Type": "application/x-amz-json-1.1"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                told: dict[str, Any] = json.load(answer)
                return told
        except urllib.error.HTTPError as error:
            with error:
                raise RefusedError(
                    f"AWS_ENDPOINT_URL={self._endpoint_url} answered {error.code} to {action}: "
                    "it is not the AWS that `lakefeed-local aws` starts."
                ) from error
        except OSError as error:
            raise UnavailableError(
                f"the local AWS at {self._endpoint_url} does not answer: {error}"
            ) from error


class CrawlService:
    """Worker threads that crawl, from `with` to the end of it.

    Args:
        endpoint_url: the local AWS.
        health: gets a heartbeat of each worker, and whether the local AWS can be used.
    """

    def __init__(
        self,
        endpoint_url: str,
        *,
        settings: LocalSettings | None = None,
        metrics: LocalMetrics | None = None,
        health: Health | None = None,
    ) -> None:
        self._settings = (settings or LocalSettings()).model_copy(update={"aws_endpoint_url": endpoint_url})
        self._endpoint_url = endpoint_url
        self._api = CrawlApi(endpoint_url)
        self.metrics = metrics or LocalMetrics()
        self._health = health or Health(self.metrics, ["aws"], stall_seconds=self._settings.stall_seconds)
        self._stop = threading.Event()
        self._workers = [
            threading.Thread(target=self._work, name=f"crawl-{number}", daemon=True)
            for number in range(self._settings.local_crawl_workers)
        ]

    def __enter__(self) -> Self:
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for worker in self._workers:
            worker.join()

    def _work(self) -> None:
        loop = threading.current_thread().name
        while not self._stop.is_set():
            self._health.beat(loop)
            try:
                crawl = self._api.claim()
            except LakefeedError as error:
                self._health.unready("aws", str(error))
                self._stop.wait(_RETRY_SECONDS)
                continue
            self._health.ready("aws")
            if crawl is not None:
                with self.metrics.running.track_inprogress():
                    self._crawl(crawl, lambda: self._health.beat(loop))
        self._health.retire(loop)

    def _crawl(self, crawl: dict[str, Any], alive: Callable[[], None]) -> None:
        """Do one crawl and report its end, whatever happens."""
        name, start = crawl["Crawler"]["Name"], time.monotonic()
        changes = Changes()
        status, message = "SUCCEEDED", ""
        try:
            self._run(crawl, changes, self._checkpoint(crawl["CrawlId"], alive))
        except CancelledError:
            status = "CANCELLED"
        except LakefeedError as error:
            status, message = "FAILED", str(error)
            self.metrics.count_error(error)
        except (ClientError, BotoCoreError) as error:
            told = explain(error, self._settings, f"the crawl of {name}")
            status, message = "FAILED", str(told)
            self.metrics.count_error(told)
        except Exception as error:
            log.exception("the crawl of %s failed", name)
            status, message = "FAILED", f"Internal error: {error!r}"
            self.metrics.count_error(error)
        seconds = time.monotonic() - start
        self.metrics.crawls.labels(status.lower()).inc()
        self.metrics.seconds.observe(seconds)
        log.info(
            "crawl ended",
            extra={"crawler": name, "status": status, "seconds": f"{seconds:.2f}"} | changes.counts(),
        )
        if message:
            log.error("the crawl of %s failed: %s", name, message)
        try:
            self._api.finish(crawl["CrawlId"], status, message, changes)
        except LakefeedError as error:
            # The launcher gives the crawl up by itself.
            log.error("the end of the crawl of %s could not be reported: %s", name, error)

    def _checkpoint(self, crawl_id: str, alive: Callable[[], None]) -> Callable[[], None]:
        """What ends a crawl that should not go on; cheap enough to call between any two steps."""
        lock = threading.Lock()
        last = time.monotonic()

        def check() -> None:
            nonlocal last
            if self._stop.is_set():
                raise LakefeedError("the crawl service was stopped during the crawl")
            with lock:
                if time.monotonic() - last < _BEAT_SECONDS:
                    return
                last = time.monotonic()
            alive()
            if not self._api.beat(crawl_id):
                raise CancelledError("StopCrawler was called")

        return check

    def _run(self, crawl: dict[str, Any], changes: Changes, checkpoint: Callable[[], None]) -> None:
        definition = Definition.parse(crawl["Crawler"])
        with ExitStack() as clients:
            s3, glue = (
                clients.enter_context(closing(self._client(service, crawl))) for service in ("s3", "glue")
            )
            catalogue = Catalogue(glue, definition, checkpoint, changes)
            finder = Finder(s3, sample_size=self._settings.local_crawl_sample_objects, checkpoint=checkpoint)
            found: list[FoundTable] = []
            failures: list[str] = []
            try:
                for source in definition.sources:
                    with _apart(source.target.location, failures):
                        found += finder.tables(definition, source, catalogue.known)
            finally:
                self.metrics.objects.inc(finder.objects_seen)
            for table in found:
                checkpoint()
                with _apart(table.location, failures):
                    catalogue.apply(table)
            if failures:
                raise LakefeedError("; ".join(failures))
            catalogue.apply_missing(found)

    def _client(self, service: str, crawl: dict[str, Any]) -> Any:
        # The local AWS takes a key of twelve digits for the account's id and checks no secret.
        session = boto3.Session(
            aws_access_key_id=crawl["Account"],
            aws_secret_access_key="unchecked",  # noqa: S106
            region_name=crawl["Region"],
        )
        options = Config(
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=16,
            retries={"mode": "standard", "total_max_attempts": 4},
            s3={"addressing_style": "path"},
        )
        return session.client(service, endpoint_url=self._endpoint_url, config=options)  # type: ignore[call-overload]


@contextmanager
def _apart(place: str, failures: list[str]) -> Iterator[None]:
    """Keep what one folder's objects raise from the other folders' tables; AWS's errors concern all."""
    try:
        yield
    except (LakefeedError, ClientError, BotoCoreError):
        raise
    except Exception as error:
        log.exception("no table could be made of %s", place)
        failures.append(f"no table could be made of {place}: {error!r}")


def endpoint(settings: LocalSettings) -> str:
    """The local AWS's address.

    Raises:
        SettingsError: it is not set: there is nothing to crawl for at AWS itself, which crawls alone.
    """
    if settings.aws_endpoint_url is None:
        raise SettingsError(
            "AWS_ENDPOINT_URL is not set: the crawl service works for the local AWS only, such as "
            "http://127.0.0.1:4566"
        )
    return settings.aws_endpoint_url
