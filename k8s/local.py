"""`make k8s-local` and `make k8s-down`: the whole pipeline on the cluster of the current context."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from k8s.cluster import ROOT, ClusterError, Deployment, build, current_context, loader, wait_until
from lakefeed_common import console

NAMESPACE = "lakefeed"
SAMPLE = ROOT / "data" / "prices.csv"
# Services to forward, if they exist: port and hint.
_ADDRESSES = {
    "analytics": "8003, then http://localhost:8003/docs",
    "grafana": "3000, then http://localhost:3000",
    "prometheus": "9090, then http://localhost:9090",
    "kafka": "9092, then lakefeed-producer publish FILE",
    "aws": "4566, then AWS_ENDPOINT_URL=http://localhost:4566",
}

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@app.command()
def up(version: str = "dev") -> None:
    """Build and load images, apply, publish the sample, and show a query result."""
    context = current_context()
    command = loader(context)
    pipeline = Deployment(NAMESPACE, command)
    pipeline.check_is_local()
    _say(
        f"context {context}, namespace {NAMESPACE}; loading images with: {' '.join(command or ['(shared)'])}"
    )
    build(version)
    before = pipeline.exists()
    pipeline.prepare(version)
    pipeline.apply()
    if before:
        pipeline.restart()
    pipeline.wait_rolled_out()
    print(pipeline.kubectl("get", "pods"), flush=True)
    _say(f"publishing {SAMPLE.relative_to(ROOT)} by a Job")
    pipeline.start_job("publish-sample")
    print(pipeline.wait_job("publish-sample"), flush=True)
    _wait_for_answer(pipeline)
    _say("querying Athena for the latest prices, through the analytics service")
    print(_query(pipeline, "--name", "latest_price"), flush=True)
    services = {each["metadata"]["name"] for each in pipeline.json("get", "services")["items"]}
    deployed = {each["metadata"]["name"] for each in pipeline.json("get", "deployment,statefulset")["items"]}
    for name in [name for name in _ADDRESSES if name in services & deployed]:
        print(f"kubectl --namespace {NAMESPACE} port-forward service/{name} {_ADDRESSES[name]}")
    print("make k8s-down removes everything")


@app.command()
def down() -> None:
    """Remove everything that `up` created."""
    context = current_context()
    pipeline = Deployment(NAMESPACE, None)
    pipeline.check_is_local()
    _say(f"context {context}: deleting the namespace {NAMESPACE}")
    pipeline.remove()


def _query(pipeline: Deployment, *arguments: str) -> str:
    return pipeline.kubectl("exec", "deployment/analytics", "--", "lakefeed-analytics", "query", *arguments)


def _wait_for_answer(pipeline: Deployment) -> None:
    """Wait until the sample is stored, crawled, and counted by Athena."""
    with SAMPLE.open() as lines:
        rows = sum(1 for _ in lines) - 1
    said: Any = None

    def counted() -> bool:
        nonlocal said
        try:
            answer = _query(pipeline, "SELECT count(*) AS events FROM demo_testing", "--format", "json")
        except ClusterError as error:
            # The first crawl creates the table.
            now: Any = str(error).splitlines()[0] if "does not exist" not in str(error) else "no table yet"
        else:
            now = int(json.loads(answer)[0]["events"])
        if now != said:
            said = now
            _say(f"Athena counts {now} of {rows} events")
        return isinstance(now, int) and now >= rows

    wait_until(counted, 300, lambda: f"{said}\n{pipeline.state()}")


if __name__ == "__main__":
    raise SystemExit(console.run(app))
