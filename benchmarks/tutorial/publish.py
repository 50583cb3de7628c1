"""The tutorials' producer: pandas, a dict a row, json.dumps, and a send with a flush for each.

`python -m benchmarks.tutorial.publish FILE.csv BROKER TOPIC`. With the same guarantees as ours: acks=all and
idempotence. Prints the seconds, and those of CPU, that it took from the file to the last acknowledgement.
"""

from __future__ import annotations

import json
import sys
import time

import pandas as pd
from confluent_kafka import Producer


def main(path: str, broker: str, topic: str) -> int:
    """Publish each row."""
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "enable.idempotence": True})
    began, cpu = time.monotonic(), time.process_time()
    for row in pd.read_csv(path).to_dict(orient="records"):
        producer.produce(topic, json.dumps(row).encode())
        producer.flush()
    print(time.monotonic() - began, time.process_time() - cpu)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
