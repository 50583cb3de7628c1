"""An agent as tutorials write it, for comparison: Faust acknowledges an event when its body continues.

Several puts are in flight, so that it keeps up, and each is retried until it succeeds. When killed it still
loses events: Faust has committed offsets of events that are not stored. It reads the consumer's settings.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

import faust

from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.records import Partition, Record
from lakefeed_common.settings import load
from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.dead_letters.validation import invalid_reason
from lakefeed_consumer.object_store import ObjectExistsError, StoreRefusedError, StoreUnavailableError
from lakefeed_consumer.s3.obstore import ObstoreObjectStore
from lakefeed_consumer.settings import ConsumerSettings


def to_record(message: Any) -> Record:
    """A Faust message as a record; Faust's timestamp is in seconds."""
    return Record(
        Partition(message.topic, message.partition),
        message.offset,
        round(message.timestamp * 1000),
        message.key,
        message.value,
        message.headers,
    )


def make_app(settings: ConsumerSettings) -> Any:
    """A Faust app with one agent that stores each event."""
    app: Any = faust.App(
        settings.consumer_group,
        broker=f"kafka://{settings.kafka_bootstrap_servers}",
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=settings.session_timeout_seconds / 10,
        broker_commit_interval=settings.commit_interval_seconds,
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=tempfile.mkdtemp(prefix="naive-"),
    )
    raw: Any = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    topic = app.topic(settings.topic, **raw)
    store = ObstoreObjectStore(settings)
    slots = asyncio.Semaphore(settings.puts_in_flight)

    async def put(record: Record) -> None:
        reason = invalid_reason(record.value)
        prefix = settings.events_prefix if reason is None else settings.dead_letter_prefix
        body = record.value or b"" if reason is None else DeadLetter(record, reason).body()
        while True:
            try:
                await store.create(event_key(prefix, record), body)
            except ObjectExistsError:
                break
            except (StoreUnavailableError, StoreRefusedError):
                await asyncio.sleep(0.2)
            else:
                break
        slots.release()

    async def store_events(stream: Any) -> None:
        puts = set()
        async for event in stream.events():
            await slots.acquire()
            task = asyncio.create_task(put(to_record(event.message)))
            puts.add(task)
            task.add_done_callback(puts.discard)

    app.agent(topic)(store_events)
    return app


if __name__ == "__main__":
    faust.Worker(make_app(load(ConsumerSettings)), loglevel="WARNING").execute_from_commandline()
