"""Errors of AWS in our words, the same ones for as long as the cause is the same; credentials of a file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import trustme
from botocore.exceptions import ClientError, CredentialRetrievalError
from botocore.loaders import JSONFileLoader, create_loader

from lakefeed_common import aws
from lakefeed_common.errors import RefusedError, SettingsError, UnavailableError
from lakefeed_common.settings import AwsSettings
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


def test_credentials_that_cannot_be_renewed_are_reported() -> None:
    failed = CredentialRetrievalError(provider="custom-process", error_msg="exit code 1")
    assert "no AWS credentials" in str(aws.explain(failed, AwsSettings(), "looking"))


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
    assert str(error).startswith(f"looking: the {part} of shared-credentials-file has a line break, a space")
    assert line.split("=")[1] not in str(error)


def test_a_profile_that_requires_a_code_is_reported_without_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(
        "[profile mfa]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/me\n"
        "[profile base]\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_PROFILE", "mfa")
    asked: list[str] = []
    monkeypatch.setattr("getpass.getpass", asked.append)
    settings = AwsSettings()
    reasons = set()
    # Each try, and each client, says the same.
    for service in ("glue", "glue", "athena"):
        with pytest.raises(aws.UnusableCredentialsError) as raised:
            getattr(
                aws.client(service, settings), {"glue": "get_databases"}.get(service, "list_work_groups")
            )()
        reasons.add(str(aws.explain(raised.value, settings, "looking")))
    [reason] = reasons
    assert reason.startswith("looking: the role of AWS_PROFILE=mfa requires an MFA code")
    assert "aws configure export-credentials --profile mfa --format env" in reason
    assert asked == []


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
