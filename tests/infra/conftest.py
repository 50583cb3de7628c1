"""Terraform against a local AWS that logs every call."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from lakefeed_local.aws import LocalAws
from lakefeed_local.settings import LocalSettings
from tests.helpers.infra import terraform, terraform_aws
from tests.helpers.rights import ACCOUNT, Call, read_calls

REGION = "us-east-1"
BUCKET = "lake-of-the-tutorial"
CIDR = "203.0.113.7/32"
# Known to the local AWS, which starts no machine for it.
AMI = "ami-0123456789abcdef0"
# What is there is known; looking at each resource takes longer than the rest.
KNOWN = ("-refresh=false",)


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
    """A local AWS that logs its calls by access key."""

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
    """The local AWS, with everything in the account 000000000000."""
    folder = tmp_path_factory.mktemp("cloud")
    calls = folder / "calls.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        # A crawl that samples few objects may miss the one with a new column.
        settings = LocalSettings(local_aws_calls=calls, local_crawl_sample_objects=1000)
        with LocalAws(folder / "aws", settings=settings, launcher=terraform_aws.LAUNCHER) as aws:
            yield Cloud(aws.endpoint_url, calls)


@dataclass(frozen=True)
class Tutorial:
    """The example `tutorial`, applied."""

    terraform: terraform.Terraform
    outputs: dict[str, Any]
    variables: Path

    def give(self, **variables: Any) -> None:
        """Give variables to the next apply."""
        given = json.loads(self.variables.read_text()) if self.variables.exists() else {}
        self.variables.write_text(json.dumps(given | variables))


@pytest.fixture(scope="session")
def tutorial(infra: Path, cloud: Cloud) -> Iterator[Tutorial]:
    """The example, applied and afterwards destroyed, which leaves nothing behind."""
    before = inventory(cloud)
    folder = infra / "examples" / "tutorial"
    running = terraform.Terraform(folder, terraform.environment(cloud.endpoint_url))
    running.init()
    made = Tutorial(running, {}, folder / "test.auto.tfvars.json")
    # The local AWS does not have Debian's image.
    made.give(bucket=BUCKET, allowed_cidrs=[CIDR], budget_emails=["me@example.com"], ami_id=AMI)
    running.apply()
    yield replace(made, outputs=running.outputs())
    made.give(delete_events=True)
    running.apply(*KNOWN)
    running.destroy(*KNOWN)
    assert inventory(cloud) == before


def inventory(cloud: Cloud) -> dict[str, list[str]]:
    """The existing resources of every kind that the example creates."""
    iam, glue, ec2 = cloud.client("iam"), cloud.client("glue"), cloud.client("ec2")
    budgets = cloud.client("budgets").describe_budgets(AccountId=ACCOUNT).get("Budgets", [])
    instances = [
        each["InstanceId"]
        for group in ec2.describe_instances()["Reservations"]
        for each in group["Instances"]
        if each["State"]["Name"] != "terminated"
    ]
    found: dict[str, list[str]] = {
        "buckets": [each["Name"] for each in cloud.client("s3").list_buckets()["Buckets"]],
        "roles": [each["RoleName"] for each in iam.list_roles()["Roles"]],
        "policies": [each["PolicyName"] for each in iam.list_policies(Scope="Local")["Policies"]],
        "profiles": [
            each["InstanceProfileName"] for each in iam.list_instance_profiles()["InstanceProfiles"]
        ],
        "databases": [each["Name"] for each in glue.get_databases()["DatabaseList"]],
        "crawlers": [each["Name"] for each in glue.get_crawlers()["Crawlers"]],
        "workgroups": [each["Name"] for each in cloud.client("athena").list_work_groups()["WorkGroups"]],
        "budgets": [each["BudgetName"] for each in budgets],
        "parameters": [each["Name"] for each in cloud.client("ssm").describe_parameters()["Parameters"]],
        "instances": instances,
        "groups": [each["GroupName"] for each in ec2.describe_security_groups()["SecurityGroups"]],
        # EC2 deletes the root volume of an instance that it terminates; the local AWS keeps it.
        "volumes": [
            each["VolumeId"]
            for each in ec2.describe_volumes()["Volumes"]
            if not each["Attachments"] or each["Attachments"][0]["InstanceId"] in instances
        ],
        "snapshots": [each["SnapshotId"] for each in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]],
    }
    return {kind: sorted(names) for kind, names in found.items()}
