"""The tutorials' consumer: a Faust agent that puts each event by boto3 before it takes the next one.

`python -m benchmarks.tutorial.agent`; it reads the consumer's own settings.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import boto3
import faust

from lakefeed_common.settings import load
from lakefeed_consumer.settings import ConsumerSettings


def make_app(settings: ConsumerSettings) -> Any:
    """A Faust app with one agent that stores each event as an object."""
    app: Any = faust.App(
        settings.consumer_group,
        broker=f"kafka://{settings.kafka_bootstrap_servers}",
        value_serializer="json",
        topic_disable_leader=True,
        web_enabled=False,
        datadir=tempfile.mkdtemp(prefix="tutorial-"),
    )
    s3 = boto3.client("s3")
    topic = app.topic(settings.topic)

    async def store(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            key = f"events/{message.topic}/{message.partition:05d}-{message.offset:020d}.json"
            s3.put_object(Bucket=settings.bucket, Key=key, Body=json.dumps(event.value))

    app.agent(topic)(store)
    return app


if __name__ == "__main__":
    worker = faust.Worker(make_app(load(ConsumerSettings)), loglevel="WARNING")
    sys.exit(worker.execute_from_commandline())
