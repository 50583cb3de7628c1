"""Faust's thread that runs aiokafka's consumer."""

from __future__ import annotations

from typing import Any

from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver

from lakefeed_common.lake.records import Partition
from lakefeed_consumer.faust_driver import fetched_records
from lakefeed_consumer.faust_driver.checked_client import CheckedClient


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Creates aiokafka's consumer with the settings that Faust does not pass on.

    Attributes:
        client: wraps the client of aiokafka's consumer.
    """

    client: CheckedClient

    def _create_worker_consumer(self, transport: Any) -> Any:
        fetched_records.install()
        consumer = super()._create_worker_consumer(transport)
        # Records of an aborted transaction are not events. Faust sets this only for transactions of its own.
        consumer._isolation_level = "read_committed"

        def fetch_offset(partition: TopicPartition) -> int | None:
            assignment = consumer._subscription.subscription.assignment
            state = None if assignment is None else assignment.state_value(partition)
            return None if state is None or not state.has_valid_position else state.position

        async def out_of_range(partition: TopicPartition, offset: int) -> None:
            starts = await consumer.beginning_offsets([partition])
            transport.hooks.out_of_range(Partition(*partition), offset, starts[partition])

        self.client = CheckedClient(consumer._client, fetch_offset, out_of_range)
        return consumer
