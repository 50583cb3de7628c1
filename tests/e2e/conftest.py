"""The containers of docker-compose.yml, as users start them, on ports and in a project of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from pytest_docker.plugin import Services

from tests.helpers.services import free_port
from tests.helpers.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "lakefeed-e2e"
GRAFANA_IMAGE = "grafana/grafana:12.1.0"
# Where the container of the local AWS notes its calls.
CALLS = "/state/calls.jsonl"
PORTS = {name: free_port() for name in ("KAFKA", "AWS", "PRODUCER", "ANALYTICS", "PROMETHEUS", "GRAFANA")}


# What the containers said, where a test failed; printed at the end.
EXPLANATIONS: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for text in EXPLANATIONS:
        terminalreporter.section("containers when the tests had ended")
        terminalreporter.write(text)


def docker(*arguments: str, check: bool = True) -> str:
    """Run a docker command; returns what it printed."""
    done = subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


def compose(*arguments: str, check: bool = True) -> str:
    """Run `docker compose` on the project's file."""
    return docker("compose", "-p", PROJECT, *arguments, check=check)


def state() -> str:
    """What explains a failure: the containers, and the ends of their logs."""
    return compose("ps", "--all", check=False) + compose("logs", "--tail", "60", check=False)


def services() -> list[str]:
    """What is started: everything, but Grafana where its image cannot be had."""
    names = compose("config", "--services").split()
    have = subprocess.run(["docker", "image", "inspect", GRAFANA_IMAGE], capture_output=True, check=False)
    if have.returncode and subprocess.run(["docker", "pull", "-q", GRAFANA_IMAGE], check=False).returncode:
        names.remove("grafana")
    return names


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the producer watches, with the sample in it."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copy(ROOT / "data" / "prices.csv", folder)
    # The container's user is not ours.
    for path in (*folder.parents[:2], folder):
        path.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def environment(data_folder: Path) -> Iterator[None]:
    """Variables of docker-compose.yml."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("LAKEFEED_", "AWS_"))]:
            patch.delenv(name)
        for name, port in PORTS.items():
            patch.setenv(f"LAKEFEED_{name}_PORT", str(port))
        # A range, as several consumers want one port each.
        first = free_port(6)
        patch.setenv("LAKEFEED_CONSUMER_PORT", f"{first}-{first + 5}")
        patch.setenv("LAKEFEED_TOPIC_PARTITIONS", "3")
        patch.setenv("LAKEFEED_DATA", str(data_folder))
        patch.setenv("LAKEFEED_LOCAL_AWS_CALLS", CALLS)
        patch.setenv("LAKEFEED_COMPACT_EVERY", "3s")
        yield


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(ROOT / "docker-compose.yml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return PROJECT


@pytest.fixture(scope="session")
def docker_setup(environment: None) -> list[str]:
    compose("--profile", "iceberg", "down", "-v", "--remove-orphans")
    return [f"up --build --wait --detach {' '.join(services())}"]


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    return ["--profile iceberg down -v --remove-orphans"]


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything up and healthy; afterwards everything gone."""
    try:
        services: Services = request.getfixturevalue("docker_services")
    except Exception as error:
        pytest.fail(f"{error}\n{state()}")
    del services
    yield
    if request.session.testsfailed:
        EXPLANATIONS.append(state())
    compose("--profile", "iceberg", "down", "-v", "--remove-orphans")
    label = f"label=com.docker.compose.project={PROJECT}"
    for kind in (["container", "ls", "--all"], ["volume", "ls"], ["network", "ls"]):
        assert docker(*kind, "--quiet", "--filter", label) == "", "`docker compose down -v` left something"


@pytest.fixture(scope="session")
def compactor(stack: None) -> None:
    """The compactor is up as well."""
    compose("--profile", "iceberg", "up", "--detach", "--wait", "--no-recreate", "compactor")


@pytest.fixture(scope="session")
def aws_options(stack: None) -> dict[str, Any]:
    return {
        "endpoint_url": f"http://127.0.0.1:{PORTS['AWS']}",
        "region_name": "us-east-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }


@pytest.fixture(scope="session")
def s3(aws_options: dict[str, Any]) -> Iterator[Any]:
    client = boto3.Session().client("s3", **aws_options)
    yield client
    client.close()


@pytest.fixture(scope="session")
def api(stack: None) -> Iterator[httpx.Client]:
    """The analytics service's HTTP API."""
    with httpx.Client(base_url=f"http://127.0.0.1:{PORTS['ANALYTICS']}", timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def kafka(stack: None) -> str:
    return f"127.0.0.1:{PORTS['KAFKA']}"


@pytest.fixture(scope="session")
def prometheus(stack: None) -> str:
    return f"http://127.0.0.1:{PORTS['PROMETHEUS']}"


def containers() -> list[dict[str, Any]]:
    """What `docker compose ps` says of each container."""
    return [json.loads(line) for line in compose("ps", "--all", "--format", "json").splitlines()]


def wait_healthy(service: str, count: int, timeout: float = 180) -> None:
    def healthy() -> bool:
        states = [entry["Health"] for entry in containers() if entry["Service"] == service]
        return states.count("healthy") == count

    wait_for(healthy, timeout, lambda: f"{count} healthy of {service}: {compose('ps', '--all')}", every=1)
