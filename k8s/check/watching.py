"""Monitoring of the pods: PodMonitors, Prometheus's configuration and Grafana's data source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import yaml

from k8s.check.manifests import Pod, Rendering, Resource, selects
from k8s.check.references import Problem


def check_monitors(rendering: Rendering, all_pods: Sequence[Pod]) -> Iterator[Problem]:
    """PodMonitors select existing pods and ports."""
    for monitor in rendering.of_kind("PodMonitor"):
        pods = [pod for pod in all_pods if selects(monitor.spec["selector"], pod.labels)]
        if not pods:
            yield monitor, "its selector selects no pod of any rendering"
        for endpoint in monitor.spec["podMetricsEndpoints"]:
            for pod in pods:
                if endpoint["port"] not in pod.ports:
                    yield monitor, f"{pod.owner} has no port {endpoint['port']}"


def check_scraping(rendering: Rendering, everything: Sequence[Rendering]) -> Iterator[Problem]:
    """Each name that Prometheus resolves is a headless Service with that port, in any rendering."""
    for config in _generated(rendering, "prometheus-config"):
        for job in yaml.safe_load(config.body["data"]["prometheus.yml"])["scrape_configs"]:
            for lookup in job.get("dns_sd_configs", []):
                for name in lookup["names"]:
                    services = [found for each in everything if (found := each.find("Service", name))]
                    yield from _lookup_problems(config, job["job_name"], name, lookup["port"], services)


def _lookup_problems(
    config: Resource, job: str, name: str, port: int, services: Sequence[Resource]
) -> Iterator[Problem]:
    if not services:
        yield config, f"job {job}: no rendering has a Service {name}"
    for service in services:
        if service.spec.get("clusterIP") != "None" or not service.spec.get("publishNotReadyAddresses"):
            yield (
                config,
                (
                    f"job {job}: the Service {name} does not resolve to every pod; it needs "
                    "clusterIP: None and publishNotReadyAddresses: true"
                ),
            )
        if port not in {each["port"] for each in service.spec["ports"]}:
            yield config, f"job {job}: the Service {name} has no port {port}"


def check_data_sources(rendering: Rendering) -> Iterator[Problem]:
    """Grafana's data source is an existing Service and port."""
    for config in _generated(rendering, "grafana-datasources"):
        for text in config.body["data"].values():
            for source in yaml.safe_load(text)["datasources"]:
                address = urlsplit(source["url"])
                service = rendering.find("Service", address.hostname or "")
                if service is None or address.port not in {each["port"] for each in service.spec["ports"]}:
                    yield config, f"data source {source['name']}: no Service exists at {source['url']}"


def _generated(rendering: Rendering, name: str) -> Iterator[Resource]:
    """The ConfigMaps of a generator, whose names end in a hash."""
    return (each for each in rendering.of_kind("ConfigMap") if each.name.rpartition("-")[0] == name)
