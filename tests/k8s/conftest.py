"""The local overlay on the current context's cluster, in a namespace of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import httpx
import pytest

from k8s.cluster import Deployment, build, current_context, loader

NAMESPACE = "lakefeed-e2e"
FIRST, SECOND = "e2e-1", "e2e-2"

# What the cluster said, where a test failed; printed at the end.
EXPLANATIONS: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for text in EXPLANATIONS:
        terminalreporter.section("the cluster when the tests had ended")
        terminalreporter.write(text)


@pytest.fixture(scope="session")
def pipeline(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """Everything rolled out; afterwards everything gone, but for images in the cluster's node."""
    for name in [name for name in os.environ if name.startswith(("LAKEFEED_", "AWS_"))]:
        del os.environ[name]
    context = current_context()
    deployment = Deployment(NAMESPACE, loader(context))
    print(f"\ncontext {context}, namespace {NAMESPACE}")
    deployment.remove()
    build(FIRST)
    try:
        deployment.prepare(FIRST)
        deployment.apply()
        deployment.wait_rolled_out()
        yield deployment
        print(deployment.kubectl("get", "pods", "--output", "wide"))
        if request.session.testsfailed:
            EXPLANATIONS.append(deployment.state())
    finally:
        deployment.remove()


@contextmanager
def s3_of(pipeline: Deployment) -> Iterator[Any]:
    """S3 of the local AWS."""
    with pipeline.forwarded("aws", 4566) as address:
        client = boto3.Session().client(
            "s3",
            endpoint_url=f"http://{address}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        try:
            yield client
        finally:
            client.close()


@contextmanager
def api_of(pipeline: Deployment) -> Iterator[httpx.Client]:
    """The analytics service's HTTP API."""
    with (
        pipeline.forwarded("analytics", 8003) as address,
        httpx.Client(base_url=f"http://{address}", timeout=60) as client,
    ):
        yield client
