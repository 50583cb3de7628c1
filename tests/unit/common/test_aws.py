"""Errors of AWS in our words, the same ones for as long as the cause is the same; credentials of a file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import trustme
from botocore.exceptions import ClientError
from botocore.loaders import JSONFileLoader, create_loader

from lakefeed_common import aws
from lakefeed_common.errors import LakefeedError, RefusedError, SettingsError, UnavailableError
from lakefeed_common.kafka import msk_token
from lakefeed_common.settings import AwsSettings, load
from tests.helpers.http_server import serving
from tests.helpers.waiting import wait_for


def answered(code: str, message: str = "", status: int = 400) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "Operation")


@pytest.mark.parametrize("code", ["ThrottlingException", "RequestLimitExceeded", "SlowDown"])
def test_throttling_can_pass(code: str) -> None:
    error = aws.explain(answered(code, "Rate exceeded"), AwsSettings(), "looking")
    assert type(error) is UnavailableError
    assert str(error) == f"looking: AWS (us-east-1) answered {code}: Rate exceeded"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_of_the_server_can_pass_whatever_its_code(status: int) -> None:
    assert aws.explain(answered("Odd", "", status), AwsSettings(), "looking").retryable


def test_a_message_does_not_change_with_each_try() -> None:
    first, second = (
        str(aws.explain(answered(code, message), AwsSettings(), "looking"))
        for code, message in (
            ("AccessDeniedException", "no (Service: Glue; Request ID: 1f2e-3d; Proxy: null)"),
            ("AccessDeniedException", "no (Service: Glue; Request ID: 4c5b-6a; Proxy: null)"),
        )
    )
    assert first == second
    skewed = answered("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than")
    error = aws.explain(skewed, AwsSettings(), "looking")
    assert "20260101" not in str(error)
    assert "clock" in str(error)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("KMS.DisabledException", "arn:aws:kms:us-east-1:1:key/2 is disabled."),
        ("NotImplemented", "A header you provided implies functionality that is not implemented"),
        ("InvalidRequestException", "Queries of this type are not supported"),
    ],
)
def test_what_aws_says_is_said_and_no_credentials_are_blamed(code: str, message: str) -> None:
    error = aws.explain(answered(code, message), AwsSettings(), "looking")
    assert type(error) is RefusedError
    assert str(error) == f"looking: AWS (us-east-1) answered {code}: {message}"


def test_a_bucket_in_another_region_is_reported_with_its_region() -> None:
    refused = answered("301", "Moved Permanently", 301)
    refused.response["ResponseMetadata"]["HTTPHeaders"] = {"x-amz-bucket-region": "eu-west-1"}
    error = aws.explain(refused, AwsSettings(), "looking")
    assert type(error) is RefusedError
    assert str(error).endswith("The bucket is in eu-west-1: set AWS_REGION=eu-west-1.")


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "403", "400"])
def test_what_credentials_can_cause_names_them(code: str) -> None:
    error = aws.explain(answered(code), AwsSettings(), "looking")
    assert type(error) is RefusedError
    assert "Check the AWS credentials" in str(error)


def test_credentials_of_a_file_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "credentials"
    text = "[default]\naws_access_key_id={0}\naws_secret_access_key=x\naws_session_token={0}\n"
    file.write_text(text.format("old"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setattr(aws, "_REREAD", timedelta(seconds=0.5))
    credentials = aws.session(AwsSettings()).get_credentials()
    assert credentials is not None
    assert credentials.get_frozen_credentials().token == "old"
    file.write_text(text.format("new"))
    wait_for(lambda: credentials.get_frozen_credentials().token == "new")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("aws_access_key_id=ab\n  cd", "access key"),
        ("aws_secret_access_key=secret of mine", "secret key"),
        ("aws_session_token=t\u00f6ken", "token"),
    ],
)
def test_a_credential_of_a_file_that_no_header_can_carry_is_named_and_not_shown(
    line: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    good = ["aws_access_key_id=good", "aws_secret_access_key=good"]
    kept = [each for each in good if each.split("=")[0] != line.split("=")[0]]
    file.write_text("\n".join(["[default]", *kept, line, ""]), encoding="utf-8")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    with pytest.raises(aws.UnusableCredentialsError) as raised:
        aws.client("glue", AwsSettings()).get_databases()
    error = aws.explain(raised.value, AwsSettings(), "looking")
    assert type(error) is RefusedError
    assert str(error).startswith(
        f"looking: the AWS credentials of profile default: the {part} has a line break, a space"
    )
    assert line.split("=")[1] not in str(error)


ROLE = "role_arn = arn:aws:iam::123456789012:role/reader\n"
BROKEN_PROFILES = {
    "missing_program": (
        "credential_process = /nope/program",
        "profile x (credential_process)",
        "/nope/program",
    ),
    "no_json": ("credential_process = /bin/echo hello", "profile x (credential_process)", "not JSON"),
    "quote": (
        'credential_process = /bin/echo "open',
        "profile x (credential_process)",
        "No closing quotation",
    ),
    "failing_program": (
        "credential_process = /bin/false",
        "profile x (credential_process)",
        "custom-process",
    ),
    "no_source": (ROLE + "source_profile = other", "profile x (role_arn)", '"other"'),
    "loop": (ROLE + "source_profile = x2\n[profile x2]\n" + ROLE + "source_profile = x", "profile x", "loop"),
    "source_kind": (ROLE + "credential_source = Foo", "profile x (role_arn)", "Foo"),
    "no_token_file": (
        ROLE + "web_identity_token_file = /nope/token",
        "profile x (web_identity_token_file)",
        "/nope/token",
    ),
    "sso_session": (
        "sso_session = other\nsso_account_id = 123456789012\nsso_role_name = r",
        "profile x (sso_session)",
        "other",
    ),
    "half": ("aws_access_key_id = hidden", "profile x", "aws_secret_access_key"),
}
BROKEN_VARIABLES = {
    "half": ({"AWS_ACCESS_KEY_ID": "hidden"}, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "foreign_container": (
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://evil.example/x"},
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "Unsupported host",
    ),
    "container_token": (
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/x",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "hidden\n",
        },
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "not a legal header value",
    ),
    "no_token_file": (
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nope/token", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r"},
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "/nope/token",
    ),
}


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No AWS variables; returns the path of the shared config file."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("getpass.getpass", lambda _: pytest.fail("it prompts"))
    return config


def _reasons(settings: AwsSettings) -> set[str]:
    """What each kind of client reports when it signs, several times."""

    def list_buckets() -> None:
        with closing(aws.client("s3", settings)) as s3:
            try:
                s3.list_buckets()
            except aws.UnusableCredentialsError as error:
                raise aws.explain(error, settings, "looking") from error

    reasons = set()
    for call in (list_buckets, list_buckets, lambda: msk_token("eu-west-1"), lambda: msk_token("eu-west-1")):
        with pytest.raises(RefusedError) as raised:
            call()
        reasons.add(
            re.sub("^(looking|a token for Amazon MSK cannot be signed): ", "", str(raised.value)).rstrip(".")
        )
    return reasons


@pytest.mark.parametrize("name", BROKEN_PROFILES)
def test_a_profile_that_gives_no_credentials_is_named_with_the_reason(
    name: str, clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, source, expected = BROKEN_PROFILES[name]
    clean.write_text(f"[profile x]\n{config}\n")
    monkeypatch.setenv("AWS_PROFILE", "x")
    [reason] = _reasons(AwsSettings())
    assert source in reason
    assert expected in reason
    assert "hidden" not in reason


def test_a_profile_that_requires_a_code_is_reported_without_a_prompt(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean.write_text(
        f"[profile mfa]\n{ROLE}source_profile = base\nmfa_serial = arn:aws:iam::123456789012:mfa/me\n"
        "[profile base]\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "mfa")
    [reason] = _reasons(AwsSettings())
    assert reason.startswith("the role of AWS_PROFILE=mfa requires an MFA code")
    assert "aws configure export-credentials --profile mfa --format env" in reason


@pytest.mark.parametrize("name", BROKEN_VARIABLES)
def test_a_variable_that_gives_no_credentials_is_named_with_the_reason(
    name: str, clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, source, expected = BROKEN_VARIABLES[name]
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    [reason] = _reasons(AwsSettings())
    assert reason.startswith("the AWS credentials of ")
    assert source in reason
    assert expected in reason
    assert "hidden" not in reason


def test_a_profile_that_is_corrected_is_used_without_a_restart(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean.write_text("[profile x]\ncredential_process = /bin/false\n")
    monkeypatch.setenv("AWS_PROFILE", "x")
    credentials = aws.session(AwsSettings()).get_credentials()
    assert credentials is not None
    with pytest.raises(aws.UnusableCredentialsError):
        credentials.get_frozen_credentials()
    clean.write_text("[profile x]\naws_access_key_id = a\naws_secret_access_key = b\n")
    assert credentials.get_frozen_credentials().access_key == "a"


WRONG_CONFIGURATION = {
    "profile": ({"AWS_PROFILE": "nope"}, "", "AWS_PROFILE=nope: there is no such profile"),
    "attempts": ({"AWS_MAX_ATTEMPTS": "abc"}, "", "AWS_MAX_ATTEMPTS='abc': it should be a whole number"),
    "timeout": (
        {"AWS_METADATA_SERVICE_TIMEOUT": "abc"},
        "",
        "AWS_METADATA_SERVICE_TIMEOUT='abc': it should be a whole number",
    ),
    "file_timeout": (
        {},
        "[default]\nmetadata_service_timeout = abc\n",
        "metadata_service_timeout of profile default='abc': it should be a whole number",
    ),
    "damaged_file": ({}, "no section\n", "Unable to parse config file"),
    "sts": ({"AWS_STS_REGIONAL_ENDPOINTS": "abc"}, "", "abc"),
}


@pytest.mark.parametrize("name", WRONG_CONFIGURATION)
def test_a_configuration_that_cannot_be_used_is_a_wrong_setting(
    name: str, clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, config, expected = WRONG_CONFIGURATION[name]
    clean.write_text(config)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=expected):
        aws.client("s3", AwsSettings())


def test_empty_variables_of_aws_count_as_unset(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    for name in ("AWS_PROFILE", "AWS_MAX_ATTEMPTS", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "")
    credentials = aws.session(load(AwsSettings)).get_credentials()
    assert credentials is not None
    assert credentials.get_frozen_credentials().access_key == "a"


def test_clients_share_the_models_of_their_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing them took most of the time that making a client took."""
    # As outside of the tests, which share one loader by themselves.
    monkeypatch.setattr(botocore.session, "create_loader", create_loader)
    settings = AwsSettings(aws_region="eu-central-1")
    aws.client("s3", settings).close()
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda *_: pytest.fail("a model is read again"))
    aws.client("s3", settings).close()


def test_a_file_of_authorities_that_is_damaged_meanwhile_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "own.pem"
    trustme.CA().cert_pem.write_to_path(file)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
    settings = AwsSettings(aws_region="eu-central-1")
    aws.client("s3", settings).close()
    file.write_text("no certificate\n")
    with pytest.raises(SettingsError, match=f"AWS_CA_BUNDLE={file}: no certificates can be read"):
        aws.client("s3", settings)


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status, body = 200, b""
    fields: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        for name, value in {**self.fields, "Content-Length": str(len(self.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_GET = do_HEAD = do_POST = answer  # noqa: N815 - the library's names

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(clean: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Answers]]:
    class Own(Answers): ...

    with serving(Own) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
        yield Own


CALLS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "head": ("s3", lambda s3: s3.head_bucket(Bucket="lake")),
    "list": ("s3", lambda s3: s3.list_objects_v2(Bucket="lake")),
    "get": ("s3", lambda s3: s3.get_object(Bucket="lake", Key="k")),
    "glue": ("glue", lambda glue: glue.get_databases()),
}
HTML = {"Content-Type": "text/html"}
MOVED = b"<Error><Code>PermanentRedirect</Code><Message>Use the endpoint</Message>%s</Error>"
ERRORS = {
    "a redirect": (301, {"Location": "http://127.0.0.1:9/"}, b"", "names no other region", "head list get"),
    "a region in the header": (
        301,
        {"x-amz-bucket-region": "eu-west-1"},
        MOVED % b"",
        "The bucket is in eu-west-1: set AWS_REGION=eu-west-1.",
        "head list get",
    ),
    "a region in the endpoint": (
        301,
        {},
        MOVED % b"<Endpoint>lake.s3-eu-west-1.amazonaws.com</Endpoint>",
        "Use the endpoint. The bucket is in eu-west-1: set AWS_REGION=eu-west-1.",
        "list get",
    ),
    "a region and no body": (
        403,
        {"x-amz-bucket-region": "eu-west-1"},
        b"",
        "The bucket is in eu-west-1: set AWS_REGION=eu-west-1.",
        "head list get",
    ),
    "a page": (
        403,
        HTML,
        b"<html><title>Blocked by policy 17</title>x</html>",
        "answered HTTP 403: Blocked by policy 17",
        "list get glue",
    ),
    "a page that HEAD does not have": (403, HTML, b"<html></html>", "answered HTTP 403: a web page", "head"),
    "JSON": (
        403,
        {},
        b'{"code": "QuotaExceeded", "message": "quota of tenant exceeded"}',
        "answered QuotaExceeded: quota of tenant exceeded",
        "list get",
    ),
    "attributes": (
        403,
        {},
        b'<Error xmlns="x"><Code a="b">Odd</Code><Message xml:lang="en">No \x1b[31m</Message></Error>',
        "answered Odd: No \\u001b[31m",
        "list get",
    ),
    "too many": (429, {}, b"<html>Slow</html>", "answered HTTP 429: Slow", "list get glue"),
    "a login page": (200, HTML, b"<html>Log in to Wifi</html>", "the response is not from AWS", "head"),
    "the login page's text": (
        200,
        HTML,
        b"<html><style>x{}</style><p>Log in</p> to Wifi</html>",
        "the response is not from AWS (Log in to Wifi). Check AWS_ENDPOINT_URL and proxies.",
        "list get glue",
    ),
    "no page at all": (200, {}, b"Log in", "the response is not from AWS", "get glue"),
}


@pytest.mark.parametrize(
    ("name", "call"), [(name, call) for name in ERRORS for call in ERRORS[name][-1].split()]
)
def test_what_a_server_answers_is_reported(name: str, call: str, server: type[Answers]) -> None:
    server.status, server.fields, server.body, expected, _ = ERRORS[name]
    settings = load(AwsSettings)
    service, request = CALLS[call]
    with (
        closing(aws.client(service, settings, attempts=1)) as client,
        pytest.raises(LakefeedError) as raised,
        aws.explained(settings, "looking", service=service),
    ):
        request(client)
    assert expected in str(raised.value)
    assert "credentials" not in str(raised.value)
    assert raised.value.retryable == (server.status in (200, 429))
