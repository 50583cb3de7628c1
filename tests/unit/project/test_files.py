"""Files that repeat what others say, held against them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from lakefeed_common.settings import variable_name
from lakefeed_consumer.settings import ConsumerSettings
from lakefeed_producer.options import FILE_SETTINGS
from tests.helpers.compose import ONE_SHOT

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = [ROOT / "docker-compose.yml", ROOT / "docker-compose.aws.yml"]
LOCKS = [*sorted(ROOT.glob("*/requirements.lock")), ROOT / "requirements.lock", ROOT / "bootstrap.lock"]
PASSED_ON = {"AWS_SESSION_TOKEN"}
# Whose address is in a file, not in the compose file.
SETTLED = {("kafka", "zookeeper"), ("grafana", "prometheus")}


def defaults() -> dict[str, str | None]:
    """Variables of the compose files with their defaults; the first one counts."""
    found: dict[str, str | None] = {}
    for file in COMPOSE:
        for name, default in re.findall(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", file.read_text()):
            found.setdefault(name, default)
    return found


def example() -> dict[str, str]:
    pairs = re.findall(r"^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    return dict(pairs)


def test_the_example_shows_every_variable_of_the_compose_files() -> None:
    assert example().keys() == defaults().keys() | PASSED_ON


def test_the_examples_values_are_the_defaults() -> None:
    shown = {name: value for name, value in example().items() if name in defaults() and value}
    documented = {name: defaults()[name] for name in shown}
    # A mechanism is only passed on; its default is the setting's own.
    documented["LAKEFEED_KAFKA_SASL_MECHANISM"] = "SCRAM-SHA-512"
    assert shown == documented


def test_what_the_messages_of_watch_advise_can_be_set_for_its_container() -> None:
    environment = yaml.safe_load(COMPOSE[0].read_text())["services"]["producer"]["environment"]
    options = {f"LAKEFEED_{name.upper()}" for name in FILE_SETTINGS}
    # A path is the container's own.
    assert options - {"LAKEFEED_SCHEMA_FILE"} <= environment.keys()


def test_batches_are_set_for_every_container_that_knows_the_layout() -> None:
    consumer = {
        variable_name(name, field): field.default for name, field in ConsumerSettings.model_fields.items()
    }
    batches = {name: value for name, value in consumer.items() if name.startswith("LAKEFEED_BATCH_")}
    assert {name: float(str(defaults()[name])) for name in batches} == batches
    for file in COMPOSE:
        services = yaml.safe_load(file.read_text().replace("!override", ""))["services"]
        assert batches.keys() <= services["consumer"]["environment"].keys(), file
        for name in ("consumer", "analytics", "compactor"):
            assert "LAKEFEED_LAYOUT" in services[name]["environment"], (file, name)


def test_ports_are_published_on_the_loopback_only() -> None:
    for service in yaml.safe_load(COMPOSE[0].read_text())["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_every_service_is_confined() -> None:
    for name, service in yaml.safe_load(COMPOSE[0].read_text())["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["tmpfs"][0].startswith("/tmp:size="), name  # noqa: S108 - the container's
        assert not {"privileged", "cap_add", "user", "pid", "ipc"} & service.keys(), name
        assert all("docker.sock" not in str(volume) for volume in service.get("volumes", [])), name


def test_every_service_has_a_health_check_a_limit_and_log_rotation() -> None:
    for name, service in yaml.safe_load(COMPOSE[0].read_text())["services"].items():
        assert service["mem_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert name in ONE_SHOT or service["healthcheck"]["test"], name


def test_services_wait_for_what_they_connect_to_and_for_one_shots_only() -> None:
    for name, service in yaml.safe_load(COMPOSE[0].read_text())["services"].items():
        for other, wait in service.get("depends_on", {}).items():
            one_shot = other in ONE_SHOT
            assert wait["condition"] == (
                "service_completed_successfully" if one_shot else "service_healthy"
            ), f"{name} waits for {other}"
            assert one_shot or f"{other}:" in str(service) or (name, other) in SETTLED, f"{name}, {other}"


def test_every_image_of_ours_is_built_by_each_service_that_runs_it() -> None:
    # Compose would pull an image that a service names without a way to build it.
    for name, service in yaml.safe_load(COMPOSE[0].read_text())["services"].items():
        if service["image"].startswith("lakefeed-"):
            assert (
                service["build"]["dockerfile"] == service["image"].split("-")[1].split(":")[0] + "/Dockerfile"
            ), name


def test_the_kafka_version_is_one_setting() -> None:
    version = str(defaults()["LAKEFEED_KAFKA_VERSION"])
    coordinates = (ROOT / "local" / "lakefeed_local" / "jgo.toml").read_text()
    assert f"org.apache.kafka:kafka_2.13:{version}" in coordinates


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_locks_pin_by_hash_and_name_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    requirements = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert requirements
    assert all("==" in line for line in requirements)
    assert text.count("--hash=sha256:") >= len(requirements)


@pytest.mark.parametrize("lock", LOCKS[:-2], ids=lambda lock: lock.parent.name)
def test_a_parts_lock_has_the_versions_that_were_tested(lock: Path) -> None:
    def pinned(file: Path) -> set[str]:
        return set(re.findall(r"^(\S+==\S+)", file.read_text(), re.MULTILINE))

    others = {each.partition("==")[0] for each in pinned(lock) - pinned(ROOT / "requirements.lock")}
    assert others == ({"py4j", "pyspark"} if lock.parent.name == "spark" else set())


def test_every_make_target_is_described() -> None:
    output = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets == set(re.findall(r"make ([a-z0-9-]+)", output))


def test_dockerfiles_use_nothing_of_buildkit() -> None:
    for file in ROOT.glob("*/Dockerfile"):
        text = file.read_text()
        assert not re.search(r"--mount|--link|<<|^# syntax", text, re.MULTILINE), file
        # The last stage has a user that is not root.
        assert re.search(r"^USER 10001:10001$", text.rsplit("\nFROM ", 1)[1], re.MULTILINE), file
