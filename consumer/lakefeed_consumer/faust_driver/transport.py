"""Faust's Kafka transport with this package's consumer in place of Faust's own."""

from __future__ import annotations

from typing import ClassVar

from faust.transport.drivers import aiokafka as driver

from lakefeed_consumer.faust_driver.group_consumer import GroupConsumer
from lakefeed_consumer.faust_driver.hooks import Hooks


class Transport(driver.Transport):
    """Creates consumers that deliver batches and commit what is stored; `hooks` is set before the start."""

    Consumer: ClassVar[type[GroupConsumer]] = GroupConsumer
    hooks: Hooks
