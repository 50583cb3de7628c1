"""Serves the local AWS: MiniStack, with what is added to it."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app as ministack

from lakefeed_local.crawl.changes import Changes
from lakefeed_local.crawl.run import crawl
from lakefeed_local.ministack import engine
from lakefeed_local.ministack.asgi import Actions, App, OwnOrigin
from lakefeed_local.ministack.calls import CallLog
from lakefeed_local.ministack.client import Client
from lakefeed_local.ministack.crawlers import Crawlers
from lakefeed_local.ministack.duck import Duck
from lakefeed_local.ministack.history import History
from lakefeed_local.ministack.queries import Queries

_KEEP_ALIVE_SECONDS = 75


def build(wrap: Callable[[App], App]) -> App:
    """The app that is served: MiniStack, behind the actions of ours and the log of calls.

    Args:
        wrap: puts more in front of MiniStack.
    """
    logged = _logged()
    base = wrap(ministack)
    sample_size = int(os.environ["LAKEFEED_LOCAL_CRAWL_SAMPLE_OBJECTS"])
    # A crawl's own calls go into the log as well.
    crawlers = Crawlers(
        partial(_crawl, logged(base), sample_size), History(Path(os.environ["STATE_DIR"], "crawls.json"))
    )
    return OwnOrigin(logged(Actions(base, {**crawlers.actions, **Queries().actions})))


async def _crawl(
    app: App, sample_size: int, crawler: dict[str, Any], owner: tuple[str, str], changes: Changes
) -> None:
    await crawl(Client(app, owner), crawler, sample_size, changes)


def _logged() -> Callable[[App], App]:
    if "LAKEFEED_LOCAL_AWS_CALLS" not in os.environ:
        return lambda app: app
    file = Path(os.environ["LAKEFEED_LOCAL_AWS_CALLS"]).open("a", buffering=1)  # noqa: SIM115 - open until the process ends
    return lambda app: CallLog(app, file)


def main(wrap: Callable[[App], App] = lambda app: app) -> None:
    """Serve until SIGTERM.

    Args:
        wrap: puts more in front of MiniStack.
    """
    try:
        engine.install(Duck(os.environ["LAKEFEED_LOCAL_AWS_ENDPOINT"]))
    except engine.UnknownVersionError as error:
        raise SystemExit(str(error)) from error
    logging.getLogger("lakefeed_local").setLevel(logging.INFO)
    with suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    config = Config()
    config.bind = [f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"]
    config.keep_alive_timeout = _KEEP_ALIVE_SECONDS
    config.loglevel = os.environ["LOG_LEVEL"]
    asyncio.run(serve(build(wrap), config))
