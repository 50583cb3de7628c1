"""What several tests of the producer use."""

from __future__ import annotations

import pytest

from tests.helpers.memory_topic import MemoryTopic


@pytest.fixture
def memory_topic(monkeypatch: pytest.MonkeyPatch) -> MemoryTopic:
    """The topic that `lakefeed-producer publish` sends to in this test."""
    topic = MemoryTopic()
    monkeypatch.setattr("lakefeed_producer.kafka.connection.connect", lambda *_: topic.connection())
    # Nothing is in flight, so there is nothing to wait for.
    monkeypatch.setattr("lakefeed_producer.publish.delivery._GRACE_SECONDS", 0.1)
    return topic
