"""Settings from `LAKEFEED_` environment variables, each with a type, a default and a description.

AWS's own variables keep their names. An invalid value raises a `SettingsError` that names the variable, its
value and what is allowed.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakefeed_common.errors import SettingsError

PREFIX = "LAKEFEED_"
_KEY_PREFIX = r"^[\w.!*'()-]+(/[\w.!*'()-]+)*$"
_ENDPOINT = re.compile(r"https?://(?:[^\s/?#@]+@)?([^\s/?#@:\[\]]+|\[[^\s/?#@\[\]]+\])(?::(\d{1,5}))?/?")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")


def setting(
    default: Any,
    description: str,
    *,
    unit: str | None = None,
    variable: str | None = None,
    **constraints: Any,
) -> Any:
    """Declare a setting. `variable` is the full name of a variable without our prefix."""
    extra: Any = {"unit": unit} if unit else None
    return Field(
        default,
        description=description,
        json_schema_extra=extra,
        validation_alias=variable,
        **constraints,
    )


class Settings(BaseSettings):
    """Base of all settings groups. Instances are immutable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        allow_inf_nan=False,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    @field_validator("*")
    @classmethod
    def _text_is_utf8(cls, value: object) -> object:
        """Refuse what Python could not send anywhere; paths may have any bytes."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        try:
            text.encode() if isinstance(text, str) else None
        except UnicodeEncodeError:
            raise ValueError("it has bytes that are not UTF-8") from None
        return value


class LogSettings(Settings):
    """What is logged, and how."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting(
        "INFO", "Minimum severity of log messages."
    )
    log_format: Literal["text", "json", "auto"] = setting(
        "text",
        "`text` for terminals, `json` for log collectors (one object per line), `auto` for `text` on a "
        "terminal and `json` otherwise.",
    )


class ServiceSettings(LogSettings):
    """Settings of every service."""

    http_host: str = setting(
        "127.0.0.1",
        "Address on which metrics, health and the API are served; `::` for all IPv6 (if the machine has it) "
        "and IPv4 addresses.",
    )

    @field_validator("http_host")
    @classmethod
    def _without_brackets(cls, value: str) -> str:
        # As an address is written in front of a port.
        return value.removeprefix("[").removesuffix("]")

    http_port: int = setting(
        8000, "Port of metrics, health and the API; 0 selects a free one.", ge=0, le=65535
    )
    stall_seconds: float = setting(
        25.0, "`/healthz` fails if the work loop has had no heartbeat for this long.", unit="s", gt=0
    )


_REGION = r"^[a-z0-9-]+$"


class RegionSettings(Settings):
    """The AWS region."""

    aws_region: str = setting(
        "us-east-1",
        "AWS region. Without it: `AWS_DEFAULT_REGION`, then the region of the profile in AWS's shared config "
        "file.",
        variable="AWS_REGION",
        pattern=_REGION,
    )

    @model_validator(mode="before")
    @classmethod
    def _region_by_awss_order(cls, values: dict[str, Any]) -> dict[str, Any]:
        if any(values.get(name) for name in ("aws_region", "AWS_REGION")):
            return values
        source, region = "AWS_DEFAULT_REGION", os.environ.get("AWS_DEFAULT_REGION")
        if not region:
            source, region = "region of AWS's shared config file", shared_config().get("region")
        if not region:
            return values
        if not re.fullmatch(_REGION, region):
            raise ValueError(f"{source}={region!r}: not an AWS region, such as eu-central-1")
        return {**values, "aws_region": region}


class KafkaSettings(RegionSettings):
    """Broker, security and topic."""

    kafka_bootstrap_servers: str = setting(
        "localhost:9092",
        "Address of the broker as host:port, or several separated by commas; IPv6 addresses as [::1]:9092.",
        pattern=r"^([^\s,:\[\]]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}(,([^\s,:\[\]]+|\[[0-9A-Fa-f:.]+\]):\d{1,5})*$",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "PLAINTEXT", "Security protocol of the connection to the broker."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "AWS_MSK_IAM"] = setting(
        "SCRAM-SHA-512",
        "Authentication mechanism with a `SASL_…` protocol. `AWS_MSK_IAM` is for Amazon MSK: it uses AWS "
        "credentials and `AWS_REGION` instead of user name and password.",
    )
    kafka_sasl_username: str | None = setting(None, "User name at the broker.")
    kafka_sasl_password: SecretStr | None = setting(None, "Password at the broker.")
    kafka_ssl_ca_file: Path | None = setting(
        None, "PEM file of the authority that signed the broker's certificate; by default the system's."
    )
    kafka_ssl_certificate_file: Path | None = setting(
        None, "PEM file of the client certificate, for brokers with mutual TLS."
    )
    kafka_ssl_key_file: Path | None = setting(
        None, "PEM file of the client certificate's key, not encrypted; by default in the same file."
    )
    kafka_timeout_seconds: float = setting(
        15.0, "How long to wait for the first response of the broker.", unit="s", gt=0
    )
    topic: str = setting(
        "demo_testing",
        "Topic of the events.",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
    )

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _ports_exist(cls, value: str) -> str:
        if any(not 0 < int(address.rpartition(":")[2]) <= 65535 for address in value.split(",")):
            raise ValueError("a port is a number from 1 up to 65535")
        return value

    @model_validator(mode="after")
    def _sasl_has_credentials(self) -> Self:
        protocol = f"LAKEFEED_KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
        if not self.kafka_security_protocol.startswith("SASL"):
            return self
        if self.kafka_sasl_mechanism == "AWS_MSK_IAM":
            if self.kafka_security_protocol != "SASL_SSL":
                raise ValueError(f"{protocol}: LAKEFEED_KAFKA_SASL_MECHANISM=AWS_MSK_IAM requires SASL_SSL")
        elif not self.kafka_sasl_username or self.kafka_sasl_password is None:
            raise ValueError(
                f"{protocol} requires LAKEFEED_KAFKA_SASL_USERNAME and LAKEFEED_KAFKA_SASL_PASSWORD"
            )
        return self

    @model_validator(mode="after")
    def _certificates_can_be_read(self) -> Self:
        if self.kafka_ssl_key_file and not self.kafka_ssl_certificate_file:
            raise ValueError("LAKEFEED_KAFKA_SSL_KEY_FILE requires LAKEFEED_KAFKA_SSL_CERTIFICATE_FILE")
        if self.kafka_ssl_ca_file or self.kafka_ssl_certificate_file:
            self.kafka_ssl_context()
        return self

    def kafka_ssl_context(self) -> ssl.SSLContext:
        """The TLS context: verifies the broker's certificate and host name, presents the client certificate.

        Raises:
            ValueError: a file cannot be read, or has invalid content.
        """
        authority, certificate = self.kafka_ssl_ca_file, self.kafka_ssl_certificate_file
        try:
            context = ssl.create_default_context(cafile=authority)
        except OSError as error:
            raise ValueError(
                f"LAKEFEED_KAFKA_SSL_CA_FILE={authority}: no certificates can be read from it "
                f"({error.strerror})"
            ) from None
        if certificate:
            key = self.kafka_ssl_key_file or certificate
            try:
                # Without a password, OpenSSL would prompt for that of an encrypted key on the terminal.
                context.load_cert_chain(certificate, key, password="")
            except OSError as error:
                raise ValueError(
                    f"LAKEFEED_KAFKA_SSL_CERTIFICATE_FILE={certificate}, LAKEFEED_KAFKA_SSL_KEY_FILE={key}: "
                    f"no certificate and its unencrypted key can be read from them ({error.strerror})"
                ) from None
        return context


class AwsSettings(RegionSettings):
    """AWS endpoint. Credentials come from AWS's own chain and are never read here."""

    aws_endpoint_url: str | None = setting(
        None,
        "Address of another server with AWS's APIs, such as a local one; unset for AWS itself. "
        "`AWS_ENDPOINT_URL_S3`, `_GLUE` and `_ATHENA` take precedence for their service, then `endpoint_url` "
        "in AWS's shared config file. `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true` ignores all of them.",
        variable="AWS_ENDPOINT_URL",
    )

    @field_validator("aws_endpoint_url")
    @classmethod
    def _every_client_takes_the_endpoint(cls, value: str | None) -> str | None:
        if value is not None:
            check_endpoint(value)
        return value


def check_endpoint(url: str) -> None:
    """Check the address of a server for what one of the clients does not take, which would crash.

    Raises:
        ValueError: what is wrong with it.
    """
    match = _ENDPOINT.fullmatch(url)
    if match is None or not 0 < int(match[2] or 80) <= 65535:
        raise ValueError("it should be like https://host:port, without a path")
    host = match[1]
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host.strip("[]"))
        except ValueError:
            raise ValueError("the address in brackets is not an IPv6 address") from None
    elif "_" in host:
        raise ValueError(
            "a host name with an underscore is refused by AWS's client. Give the server another name, or use "
            "its address"
        )
    elif not _HOST_NAME.fullmatch(host):
        raise ValueError("the host name may only consist of letters of ASCII, digits, hyphens and dots")


class LakeSettings(AwsSettings):
    """Location of the objects."""

    bucket: str = setting(
        "lakefeed",
        "Bucket of the objects.",
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
    )
    layout: Literal["objects", "batches"] = setting(
        "objects",
        "How events are stored: `objects`, one object per event, or `batches`, many events per compressed "
        "object. Stop all consumers of a topic before you change it.",
    )
    events_prefix: str = setting("events", "Prefix of the keys of event objects.", pattern=_KEY_PREFIX)
    batches_prefix: str = setting(
        "batches", "Prefix of the keys of batch objects (`LAKEFEED_LAYOUT=batches`).", pattern=_KEY_PREFIX
    )
    dead_letter_prefix: str = setting(
        "dead-letters", "Prefix of the keys of dead letters.", pattern=_KEY_PREFIX
    )

    @property
    def layout_prefix(self) -> str:
        """Prefix of the keys of what the layout stores."""
        return self.batches_prefix if self.layout == "batches" else self.events_prefix

    @model_validator(mode="after")
    def _prefixes_do_not_overlap(self) -> Self:
        for one, other in combinations(("events_prefix", "batches_prefix", "dead_letter_prefix"), 2):
            first, second = getattr(self, one), getattr(self, other)
            if f"{first}/".startswith(f"{second}/") or f"{second}/".startswith(f"{first}/"):
                raise ValueError(
                    f"{PREFIX}{one.upper()}={first} and {PREFIX}{other.upper()}={second} must not contain "
                    "one another: the crawler would read the objects of both as one table"
                )
        return self


def shared_config() -> dict[str, Any]:
    """The profile's section in AWS's shared config file, or an empty one. Reading it imports botocore."""
    # Without a home, Path.expanduser would raise.
    if not Path(os.path.expanduser(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")).is_file():  # noqa: PTH111
        return {}
    try:
        from botocore.exceptions import BotoCoreError  # rarely needed, and slow
        from botocore.session import Session
    except ImportError:
        # A program without an AWS client only needs the region to be the same each time.
        return {}
    try:
        return Session().get_scoped_config()
    except BotoCoreError:
        # An invalid profile is reported when AWS is called; other commands do not need it.
        return {}


S = TypeVar("S", bound=Settings)


def variable_name(name: str, field: FieldInfo) -> str:
    """The environment variable that sets this field."""
    alias = field.validation_alias
    return alias if isinstance(alias, str) else f"{PREFIX}{name.upper()}"


def load(
    cls: type[S], options: Mapping[str, Any] | None = None, spellings: Mapping[str, str] | None = None
) -> S:
    """Read settings from the environment; an option that is not None takes precedence.

    Args:
        cls: the settings.
        options: values by the name of the setting.
        spellings: options that are not called like their setting.

    Raises:
        SettingsError: one line per invalid value, with the variable, the value and what is allowed.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    for name in [name for name, value in os.environ.items() if name.startswith("AWS_") and not value]:
        # As in our own settings; botocore would look for a profile without a name.
        del os.environ[name]
    try:
        return cls(**given)
    except ValidationError as error:
        lines = [_explain(cls, dict(problem), given, spellings or {}) for problem in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def _explain(
    cls: type[Settings], problem: dict[str, Any], options: Mapping[str, Any], spellings: Mapping[str, str]
) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    where = str(problem["loc"][0])
    for name, field in cls.model_fields.items():
        if where in (name, field.validation_alias):
            option = spellings.get(name, f"--{name.replace('_', '-')}")
            variable = option if name in options else variable_name(name, field)
            secret = "Secret" in str(field.annotation)
            value = "(hidden)" if secret else repr(problem["input"])
            return f"{variable}={value}: {message[0].lower()}{message[1:]}. {field.description}"
    return f"{where}: {message}"
