from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from lakefeed_common import aws
from lakefeed_common.errors import ExitCode, SettingsError
from lakefeed_common.settings import AwsSettings, KafkaSettings, LakeSettings, ServiceSettings, load


def wrong(cls: type, **options: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load(cls, options)
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)


def test_a_wrong_variable_is_named_with_value_and_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_HTTP_PORT", "eighty")
    message = wrong(ServiceSettings)
    assert "LAKEFEED_HTTP_PORT='eighty'" in message
    assert "valid integer" in message


def test_a_wrong_option_is_named_as_the_option() -> None:
    assert "--topic='a b'" in wrong(KafkaSettings, topic="a b")


def test_every_wrong_value_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_LOG_LEVEL", "LOUD")
    monkeypatch.setenv("LAKEFEED_STALL_SECONDS", "-1")
    lines = wrong(ServiceSettings).splitlines()
    assert [line.split("=")[0] for line in lines] == ["LAKEFEED_LOG_LEVEL", "LAKEFEED_STALL_SECONDS"]


def test_awss_own_variables_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "ftp://x")
    assert "AWS_ENDPOINT_URL='ftp://x'" in wrong(LakeSettings)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    assert load(LakeSettings).aws_region == "eu-central-1"
    assert load(LakeSettings).aws_endpoint_url is None


def test_sasl_without_a_user_names_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    assert "LAKEFEED_KAFKA_SASL_USERNAME" in wrong(KafkaSettings)


def test_secrets_stay_out_of_messages_and_reprs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAKEFEED_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("LAKEFEED_KAFKA_SASL_USERNAME", "u")
    monkeypatch.setenv("LAKEFEED_KAFKA_SASL_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load(KafkaSettings))
    monkeypatch.setenv("LAKEFEED_KAFKA_SSL_CA_FILE", str(tmp_path / "none.pem"))
    message = wrong(KafkaSettings)
    assert "hunter2" not in message
    assert "LAKEFEED_KAFKA_SSL_CA_FILE" in message


def test_msk_requires_tls_and_no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_KAFKA_SASL_MECHANISM", "AWS_MSK_IAM")
    monkeypatch.setenv("LAKEFEED_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    assert "AWS_MSK_IAM requires SASL_SSL" in wrong(KafkaSettings)
    monkeypatch.setenv("LAKEFEED_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    assert load(KafkaSettings).kafka_sasl_username is None


def encrypted_key(certificate: trustme.LeafCert) -> bytes:
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))


def test_certificates_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    mine, another = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    certificate, key, text = tmp_path / "certificate.pem", tmp_path / "key.pem", tmp_path / "text.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in mine.cert_chain_pems))
    text.write_text("no certificate")

    monkeypatch.setenv("LAKEFEED_KAFKA_SSL_CA_FILE", str(text))
    assert wrong(KafkaSettings).startswith(f"LAKEFEED_KAFKA_SSL_CA_FILE={text}: no certificates can be read")
    monkeypatch.setenv("LAKEFEED_KAFKA_SSL_CA_FILE", str(certificate))
    assert load(KafkaSettings).kafka_ssl_ca_file == certificate

    monkeypatch.setenv("LAKEFEED_KAFKA_SSL_KEY_FILE", str(key))
    assert wrong(KafkaSettings) == "LAKEFEED_KAFKA_SSL_KEY_FILE requires LAKEFEED_KAFKA_SSL_CERTIFICATE_FILE"
    monkeypatch.setenv("LAKEFEED_KAFKA_SSL_CERTIFICATE_FILE", str(certificate))
    assert "No such file" in wrong(KafkaSettings)
    for unusable in (another.private_key_pem.bytes(), encrypted_key(mine)):
        key.write_bytes(unusable)
        message = wrong(KafkaSettings)
        assert f"LAKEFEED_KAFKA_SSL_KEY_FILE={key}: no certificate and its unencrypted key" in message
    key.write_bytes(mine.private_key_pem.bytes())
    assert load(KafkaSettings).kafka_ssl_key_file == key
    # Both may be in one file.
    monkeypatch.delenv("LAKEFEED_KAFKA_SSL_KEY_FILE")
    certificate.write_bytes(mine.private_key_and_cert_chain_pem.bytes())
    assert load(KafkaSettings).kafka_ssl_certificate_file == certificate


@pytest.mark.parametrize(("events", "batches"), [("a", "a"), ("a", "a/b"), ("dead-letters/a", "b")])
def test_each_prefix_is_compared_with_each_other(events: str, batches: str) -> None:
    message = wrong(LakeSettings, events_prefix=events, batches_prefix=batches)
    assert "LAKEFEED_EVENTS_PREFIX" in message


def test_the_layout_selects_the_prefix() -> None:
    assert load(LakeSettings).layout_prefix == "events"
    assert load(LakeSettings, {"layout": "batches"}).layout_prefix == "batches"


def test_prefixes_that_contain_one_another_are_refused() -> None:
    assert "LAKEFEED_DEAD_LETTER_PREFIX" in wrong(LakeSettings, dead_letter_prefix="events/dead")


WRONG_ENDPOINTS = {
    "http://": "it should be like https://host:port",
    "http://a b": "it should be like https://host:port",
    "localhost:4566": "it should be like https://host:port",
    "http://host/path": "it should be like https://host:port",
    "http://:900": "it should be like https://host:port",
    "http://[::1": "it should be like https://host:port",
    "http://host:0": "it should be like https://host:port",
    "http://host:99999": "it should be like https://host:port",
    "http://host:abc": "it should be like https://host:port",
    "http://[host]:900": "not an IPv6 address",
    "http://a_b:900": "host name with an underscore",
    "http://b\u00fcch.example:900": "letters of ASCII",
    "http://-a:900": "letters of ASCII",
    "http://a..b": "letters of ASCII",
}


@pytest.mark.parametrize("address", WRONG_ENDPOINTS)
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_that_a_client_does_not_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, address: str
) -> None:
    monkeypatch.setenv(variable, address)
    with pytest.raises(SettingsError) as refused:
        aws.client("s3", load(AwsSettings))
    assert str(refused.value).startswith(f"{variable}={address!r}: ")
    assert WRONG_ENDPOINTS[address] in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://local-aws:4566",
        "https://s3.example.com./",
        "http://[::1]:900",
        "http://10.0.0.7",
        "http://a:1",
    ],
)
def test_an_endpoint_is_a_name_or_an_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    settings = load(AwsSettings)
    assert settings.aws_endpoint_url == address
    aws.client("s3", settings).close()


@pytest.mark.parametrize(("host", "expected"), [("[::1]", "::1"), ("[::]", "::"), ("localhost", "localhost")])
def test_the_host_of_http_may_be_in_brackets(host: str, expected: str) -> None:
    assert load(ServiceSettings, {"http_host": host}).http_host == expected


def test_a_number_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_STALL_SECONDS", "inf")
    with pytest.raises(SettingsError, match="LAKEFEED_STALL_SECONDS='inf': input should be a finite number"):
        load(ServiceSettings)


@pytest.mark.parametrize("servers", ["[::1]:9092", "[fd00::1]:9092,broker:9092", "[2001:db8::1]:1"])
def test_a_broker_may_have_an_ipv6_address(servers: str) -> None:
    assert load(KafkaSettings, {"kafka_bootstrap_servers": servers}).kafka_bootstrap_servers == servers


@pytest.mark.parametrize("servers", ["::1:9092", "[::1]", "[::1]:0", "[host]:9092", "a[::1]:9092"])
def test_an_ipv6_address_stands_in_brackets(servers: str) -> None:
    with pytest.raises(SettingsError, match="kafka-bootstrap-servers"):
        load(KafkaSettings, {"kafka_bootstrap_servers": servers})
