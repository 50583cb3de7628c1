"""Everything on addresses of IPv6 alone: the broker, the services, and the way between them."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import TYPE_CHECKING

from lakefeed_local.broker import Broker
from lakefeed_local.settings import LocalSettings
from tests.helpers.consuming import by_position, objects
from tests.helpers.publishing import publish
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def answers(port: int) -> int:
    asked = http.client.HTTPConnection("::1", port, timeout=10)
    asked.request("GET", "/readyz")
    with asked.getresponse() as answer:
        return answer.status


def test_rows_become_objects_through_a_broker_on_ipv6(
    topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("n\n1\n2\n3\n")
    with Broker(tmp_path / "broker", settings=LocalSettings(local_host="::1")) as broker:
        assert broker.bootstrap_servers == f"[::1]:{broker.kafka_port}"
        published = publish(tmp_path, "rows.csv", kafka=broker.bootstrap_servers, topic=topic)
        assert published.returncode == 0, published.stderr
        settings = consumer_settings | {
            "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "LAKEFEED_HTTP_HOST": "::1",
        }
        with Service("consumer", "run", log=tmp_path / "log", **settings) as consumer:
            wait_for(lambda: len(objects(s3, bucket, "")) == 3, 90, lambda: consumer.log)
            wait_for(lambda: answers(consumer.port) == 200, 30, lambda: consumer.log)
            assert consumer.stop() == 0
    assert sorted(by_position(objects(s3, bucket, "")).values(), key=str) == [
        b'{"n":1}',
        b'{"n":2}',
        b'{"n":3}',
    ]
