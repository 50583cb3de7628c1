"""Opens the S3 client that `LAKEFEED_S3_CLIENT` selects."""

from __future__ import annotations

import logging
import urllib.request
from urllib.parse import urlsplit

from lakefeed_consumer.object_store import ObjectStore
from lakefeed_consumer.s3.fast.store import FastObjectStore
from lakefeed_consumer.s3.obstore import ObstoreObjectStore
from lakefeed_consumer.settings import ConsumerSettings

log = logging.getLogger(__name__)


def open_store(settings: ConsumerSettings) -> ObjectStore:
    """The selected client; obstore alone where a proxy leads to the server.

    Raises:
        StoreRefusedError: there are no AWS credentials.
    """
    store = ObstoreObjectStore(settings)
    if settings.s3_client == "obstore":
        return store
    server = urlsplit(store.place.url)
    proxied = {server.scheme, "all"} & urllib.request.getproxies().keys()
    if proxied and not urllib.request.proxy_bypass(server.netloc):
        log.info("obstore puts the objects: %s is reached through a proxy", server.hostname)
        return store
    return FastObjectStore(settings, store)
