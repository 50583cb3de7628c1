"""Settings, ports and HTTP paths of our services, read from their code."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

import yaml

from docs.configuration import service_class
from k8s.check.render import ROOT
from lakefeed_analytics import api
from lakefeed_analytics.metrics import AnalyticsMetrics
from lakefeed_analytics.parts import connect
from lakefeed_analytics.queries import NamedQueries
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_analytics.watch import QueryWatch
from lakefeed_common.errors import SettingsError
from lakefeed_common.health import Health
from lakefeed_common.metrics import ServiceMetrics
from lakefeed_common.settings import PREFIX, ServiceSettings, Settings, load, variable_name
from lakefeed_common.web import StatusServer
from monitoring.catalogue import PARTS

# Variables of AWS's credentials chain and clients.
AWS_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_STS_REGIONAL_ENDPOINTS",
    }
)
# Health endpoints of third-party programs, from their documentation.
FOREIGN_PATHS = {
    "prom/prometheus": frozenset({"/-/healthy", "/-/ready"}),
    "grafana/grafana": frozenset({"/api/health"}),
    "MiniStack": frozenset({"/_ministack/health", "/_ministack/ready"}),
}


def settings_of(part: str, arguments: Sequence[str] | None = None) -> type[Settings]:
    """The settings class of a part when it is started with these arguments; None for all of its settings.

    Raises:
        KeyError: there is no such part.
    """
    cls = service_class(part) if part in PARTS else None
    if cls is None:
        raise KeyError(part)
    if part == "analytics" and arguments is not None and not _is_iceberg(part, arguments):
        return AnalyticsSettings
    return cls


@cache
def variables_of(cls: type[Settings]) -> dict[str, str]:
    """The variables of a settings class, each with its field's name."""
    return {variable_name(name, field): name for name, field in cls.model_fields.items()}


@cache
def all_variables() -> frozenset[str]:
    """The variables that any part reads."""
    return frozenset(name for part in PARTS for name in variables_of(settings_of(part))) | AWS_VARIABLES


def concerns_us(variable: str) -> bool:
    """Whether a variable can only be one of our settings, or of AWS's clients."""
    return variable.startswith((PREFIX, "AWS_"))


def files(cls: type[Settings], variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that name a file which is read at startup, with the file."""
    fields = variables_of(cls)
    return {name: value for name, value in variables.items() if fields.get(name, "").endswith("_file")}


def wrong_values(cls: type[Settings], variables: Mapping[str, str]) -> str | None:
    """The error of a component for its environment at startup; None if it would start.

    Files that a variable names are on a pod's volumes and not here, so those variables are left out.
    """
    elsewhere = files(cls, variables)
    here = {name: value for name, value in variables.items() if name not in elsewhere}
    return _refused(cls, tuple(sorted(here.items())))


@cache
def _refused(cls: type[Settings], variables: tuple[tuple[str, str], ...]) -> str | None:
    with _environment(dict(variables)):
        try:
            load(cls)
        except SettingsError as error:
            return str(error)
    return None


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def port_of(part: str, arguments: Sequence[str], variables: Mapping[str, str]) -> int:
    """The port on which a part serves HTTP when it is started with these arguments and variables."""
    name = "local_aws_port" if is_local_aws(part, arguments) else "http_port"
    field = settings_of(part).model_fields[name]
    return int(variables.get(variable_name(name, field), field.default))


def is_local_aws(part: str | None, arguments: Sequence[str]) -> bool:
    """Whether these arguments start MiniStack, which is part of our image."""
    return part == "local" and list(arguments[:1]) == ["aws"]


def _is_iceberg(part: str | None, arguments: Sequence[str]) -> bool:
    """Whether these arguments are a command on Iceberg tables, which also reads Kafka's settings."""
    return part == "analytics" and not {"compact", "rebuild", "maintain"}.isdisjoint(arguments[:1])


def answers(image: str, part: str | None, arguments: Sequence[str], path: str) -> bool | None:
    """Whether a program serves this path; None if the program is unknown."""
    if is_local_aws(part, arguments):
        return path in FOREIGN_PATHS["MiniStack"]
    if part == "analytics" and not _is_iceberg(part, arguments):
        return path in _analytics_paths()
    if part is not None:
        return _status_server_has(path)
    known = FOREIGN_PATHS.get(image.partition(":")[0])
    return None if known is None else path in known


@cache
def _analytics_paths() -> frozenset[str]:
    """The paths of the actual app, with clients that are never used."""
    settings = AnalyticsSettings(aws_endpoint_url="http://127.0.0.1:1")
    metrics = AnalyticsMetrics(())
    health = Health(metrics, (), stall_seconds=60)
    with connect(settings, lambda: None) as parts:
        watch = QueryWatch(parts.engine, metrics, settings)
        named = NamedQueries(settings.queries_folder)
        app = api.build(api.Context(parts, named, watch, metrics, health, settings, wake=lambda: None))
    return frozenset(app.openapi()["paths"])


@cache
def _status_server_has(path: str) -> bool:
    """Requests the path from the actual server of the services, on a free loopback port."""
    metrics = ServiceMetrics("common")
    health = Health(metrics, (), stall_seconds=60)
    with StatusServer(ServiceSettings(http_host="127.0.0.1", http_port=0), metrics, health) as server:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10):
                return True
        except urllib.error.HTTPError as error:
            return error.code != 404


@cache
def compose_images() -> dict[str, str]:
    """The tags of the images in docker-compose.yml by repository, with variables at their defaults."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    images = {service["image"] for service in services.values()}
    found = {}
    for image in images:
        repository, _, tag = image.partition(":")
        # `${NAME:-default}`
        found[repository] = tag.removesuffix("}").rpartition(":-")[2] if "${" in tag else tag
    return found
