"""Kafka's command-line tools, with the broker's address and the topic from the settings."""

from __future__ import annotations

import os

from lakefeed_common.settings import KafkaSettings

CLASSES = {
    "topic": "org.apache.kafka.tools.TopicCommand",
    "console-producer": "kafka.tools.ConsoleProducer",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "group": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}
# Each tool has another name for the option of a file with client settings.
_CONFIG_OPTIONS = {
    "topic": "--command-config",
    "console-producer": "--producer.config",
    "console-consumer": "--consumer.config",
    "group": "--command-config",
}
_TOPIC_ACTIONS = {"--list", "--describe", "--create", "--alter", "--delete"}
_GROUP_ACTIONS = {
    *("--list", "--describe", "--delete", "--reset-offsets", "--delete-offsets"),
    *("--validate-regex", "--help", "--version"),
}


def arguments(tool: str, kafka: KafkaSettings, given: list[str]) -> tuple[list[str], str]:
    """The arguments of a tool, with defaults from the settings, and the client settings that it has to read.

    The client settings are empty unless the connection is secured; `config_arguments` passes them.
    """
    names = {word.partition("=")[0] for word in given}
    words = list(given)
    if not names & {"--help", "--version"}:
        words = [*_defaults(tool, kafka, names), *words]
    if "--bootstrap-server" not in names:
        words = ["--bootstrap-server", kafka.kafka_bootstrap_servers, *words]
    secured = kafka.kafka_security_protocol != "PLAINTEXT" and _CONFIG_OPTIONS[tool] not in names
    return words, client_properties(kafka) if secured else ""


def config_arguments(tool: str, properties: str) -> list[str]:
    """Pass client settings to a tool that is about to replace this process.

    They go through a pipe, so that a password is neither in a file nor in the list of processes.
    """
    reading, writing = os.pipe()
    os.write(writing, properties.encode())
    os.close(writing)
    os.set_inheritable(reading, True)
    return [_CONFIG_OPTIONS[tool], f"/dev/fd/{reading}"]


def _defaults(tool: str, kafka: KafkaSettings, names: set[str]) -> list[str]:
    match tool:
        case "topic":
            action = [] if names & _TOPIC_ACTIONS else ["--describe"]
            named = bool(names & {"--topic", "--topic-id", "--list"})
            return [*action, *([] if named else ["--topic", kafka.topic])]
        case "group":
            return [] if names & _GROUP_ACTIONS else ["--describe", "--all-groups"]
        case _:
            named = bool(names & {"--topic", "--include", "--whitelist"})
            return [] if named else ["--topic", kafka.topic]


def client_properties(kafka: KafkaSettings) -> str:
    """The security settings as Kafka's Java clients read them."""
    lines: dict[str, str] = {"security.protocol": kafka.kafka_security_protocol}
    if kafka.kafka_security_protocol.startswith("SASL") and kafka.kafka_sasl_password is not None:
        scram = kafka.kafka_sasl_mechanism.startswith("SCRAM")
        module = "scram.ScramLoginModule" if scram else "plain.PlainLoginModule"
        user = _quoted(kafka.kafka_sasl_username or "")
        password = _quoted(kafka.kafka_sasl_password.get_secret_value())
        lines["sasl.mechanism"] = kafka.kafka_sasl_mechanism
        lines["sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.{module} required username={user} password={password};"
        )
    if kafka.kafka_ssl_ca_file is not None:
        lines["ssl.truststore.type"] = "PEM"
        lines["ssl.truststore.location"] = str(kafka.kafka_ssl_ca_file)
    return "".join(f"{key}={_property(value)}\n" for key, value in lines.items())


def _quoted(value: str) -> str:
    """A value in a line of JAAS."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _property(value: str) -> str:
    """A value in a Java properties file."""
    return value.replace("\\", "\\\\")
