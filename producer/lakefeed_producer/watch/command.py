"""The command `watch`: wires the parts, and runs them."""

from __future__ import annotations

import logging
from pathlib import Path

from lakefeed_common import logs
from lakefeed_common.console import stop_on_signals
from lakefeed_common.errors import SettingsError
from lakefeed_common.health import Health
from lakefeed_common.web import StatusServer
from lakefeed_producer.kafka.connection import BrokerLink
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.publish.publish_file import PublishOptions
from lakefeed_producer.settings import ProducerSettings
from lakefeed_producer.watch.context import WatchContext
from lakefeed_producer.watch.folder import Folder
from lakefeed_producer.watch.ledger import Ledger
from lakefeed_producer.watch.watcher import Watcher

log = logging.getLogger(__name__)


def watch_folder(path: Path, settings: ProducerSettings) -> None:
    """Publish each CSV file that appears in a folder, until stopped."""
    if not path.is_dir():
        raise SettingsError(f"there is no folder {path} to watch. Create it, or name another")
    logs.configure(settings)
    stop = stop_on_signals()
    options = PublishOptions.of(settings)
    metrics = ProducerMetrics()
    health = Health(metrics, ["kafka"], stall_seconds=settings.stall_seconds)
    with Ledger(settings.state_folder) as ledger, StatusServer(settings, metrics, health) as server:
        log.info("Watching %s; metrics and health on port %s", path, server.port)
        rejects_folder = settings.state_folder / "rejects"
        context = WatchContext(options, rejects_folder, ledger, metrics, health, stop)
        folder = Folder(path, settings.watch_settle_seconds)
        Watcher(folder, BrokerLink(settings), context, settings.watch_poll_seconds).run()
        log.info("Stopped")
