"""Terraform against a local AWS that notes every call."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from lakefeed_local.aws import LocalAws
from lakefeed_local.crawl_service import CrawlService
from lakefeed_local.settings import LocalSettings
from tests.infra import terraform
from tests.rights import Call, read_calls

REGION = "us-east-1"


@pytest.fixture(scope="session")
def terraform_program() -> str:
    """Terraform's path."""
    found = shutil.which("terraform")
    if found is None:
        pytest.fail("terraform is not on the path: https://developer.hashicorp.com/terraform/install")
    return found


@pytest.fixture(scope="session")
def infra(terraform_program: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder `infra`, to run Terraform in."""
    return terraform.copy(tmp_path_factory.mktemp("project"))


@dataclass(frozen=True)
class Cloud:
    """A local AWS, whose calls are noted by access key."""

    endpoint_url: str
    file: Path

    def client(self, service: str) -> Any:
        return boto3.Session(
            aws_access_key_id="test", aws_secret_access_key="unchecked", region_name=REGION
        ).client(service, endpoint_url=self.endpoint_url)  # type: ignore[call-overload]

    def calls(self, access_key: str) -> list[Call]:
        return [call for call in read_calls(self.file.read_text()) if call.access_key == access_key]


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The local AWS, with crawls; all of it is in its account 000000000000."""
    folder = tmp_path_factory.mktemp("cloud")
    calls = folder / "calls.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        with LocalAws(folder / "aws", settings=LocalSettings(local_aws_calls=calls)) as aws:
            with CrawlService(aws.endpoint_url):
                yield Cloud(aws.endpoint_url, calls)
