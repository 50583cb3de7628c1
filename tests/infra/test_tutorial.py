"""The example `tutorial`, applied to a local AWS: what is there, and that it stays as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers.rights import ACCOUNT
from tests.infra.conftest import BUCKET, CIDR, KNOWN, Cloud, Tutorial

pytestmark = pytest.mark.timeout(600)


def test_the_bucket_is_private_encrypted_versioned_and_tls_only(tutorial: Tutorial, cloud: Cloud) -> None:
    s3 = cloud.client("s3")
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())
    encryption = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert [each["ApplyServerSideEncryptionByDefault"] for each in encryption] == [{"SSEAlgorithm": "AES256"}]
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    ownership = s3.get_bucket_ownership_controls(Bucket=BUCKET)["OwnershipControls"]["Rules"]
    assert ownership == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert set(statement["Resource"]) == {f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"}


def test_results_and_dead_letters_expire_and_events_do_not(tutorial: Tutorial, cloud: Cloud) -> None:
    rules = cloud.client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    expiring = {
        each["Filter"]["Prefix"]: each["Expiration"]["Days"] for each in rules if "Expiration" in each
    }
    assert expiring == {"athena-results/": 7, "dead-letters/": 365}
    assert all(each["Status"] == "Enabled" for each in rules)


def test_the_catalogue_is_there(tutorial: Tutorial, cloud: Cloud) -> None:
    glue, athena = cloud.client("glue"), cloud.client("athena")
    assert glue.get_database(Name="lakefeed")["Database"]["Name"] == "lakefeed"
    crawler = glue.get_crawler(Name="lakefeed")["Crawler"]
    targets = crawler["Targets"]["S3Targets"]
    assert [each["Path"] for each in targets] == [f"s3://{BUCKET}/events/demo_testing/"]
    assert crawler["Role"].endswith("lakefeed-crawler")
    configuration = athena.get_work_group(WorkGroup="lakefeed")["WorkGroup"]["Configuration"]
    assert configuration["EnforceWorkGroupConfiguration"] is True
    assert configuration["BytesScannedCutoffPerQuery"] == 10_000_000_000
    assert configuration["ResultConfiguration"]["OutputLocation"] == f"s3://{BUCKET}/athena-results/"


def test_the_budget_tells_the_owner(tutorial: Tutorial, cloud: Cloud) -> None:
    budgets = cloud.client("budgets")
    limit = budgets.describe_budget(AccountId=ACCOUNT, BudgetName="lakefeed")["Budget"]["BudgetLimit"]
    assert (float(limit["Amount"]), limit["Unit"]) == (50, "USD")
    found = budgets.describe_notifications_for_budget(AccountId=ACCOUNT, BudgetName="lakefeed")[
        "Notifications"
    ]
    assert {(each["NotificationType"], each["Threshold"]) for each in found} == {
        ("ACTUAL", 80),
        ("FORECASTED", 100),
    }


def trusted(role: dict[str, Any]) -> Any:
    document = role["AssumeRolePolicyDocument"]
    (statement,) = document["Statement"]
    assert statement["Action"] == "sts:AssumeRole"
    return statement["Principal"]


def test_each_role_is_taken_by_whom_it_is_for(tutorial: Tutorial, cloud: Cloud) -> None:
    roles = {each["RoleName"]: each for each in cloud.client("iam").list_roles()["Roles"]}
    assert trusted(roles["lakefeed-crawler"]) == {"Service": "glue.amazonaws.com"}
    for service in ("consumer", "analytics", "compactor", "maintain"):
        # The caller of Terraform, here the root of the account.
        assert trusted(roles[f"lakefeed-{service}"]) == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
        attached = cloud.client("iam").list_attached_role_policies(RoleName=f"lakefeed-{service}")
        assert [each["PolicyName"] for each in attached["AttachedPolicies"]] == [f"lakefeed-{service}"]
        assert f"role_arn = {roles[f'lakefeed-{service}']['Arn']}" in tutorial.outputs["aws_config"]


def test_the_broker_is_open_to_one_address_on_one_port(tutorial: Tutorial, cloud: Cloud) -> None:
    ec2 = cloud.client("ec2")
    (instance,) = [
        each
        for group in ec2.describe_instances()["Reservations"]
        for each in group["Instances"]
        if each["State"]["Name"] != "terminated"
    ]
    (group,) = instance["SecurityGroups"]
    (ingress,) = ec2.describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"][0][
        "IpPermissions"
    ]
    assert (ingress["FromPort"], ingress["ToPort"], ingress["IpProtocol"]) == (9092, 9092, "tcp")
    assert [each["CidrIp"] for each in ingress["IpRanges"]] == [CIDR]
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    volumes = ec2.describe_volumes()["Volumes"]
    assert sorted(each["Size"] for each in volumes) == [10, 20]
    assert all(each["Encrypted"] for each in volumes)
    assert "lakefeed-producer publish" in tutorial.outputs["publish_command"]


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "::/0"])
def test_a_broker_open_to_everybody_is_refused(cidr: str, tutorial: Tutorial) -> None:
    found = tutorial.terraform.run("plan", *KNOWN, "-no-color", f'-var=allowed_cidrs=["{cidr}"]', check=False)
    assert found.returncode == 1
    assert "the whole internet" in " ".join(found.stderr.split())


def test_without_an_address_there_is_no_plan(tutorial: Tutorial) -> None:
    found = tutorial.terraform.run("plan", *KNOWN, "-no-color", "-var=allowed_cidrs=null", check=False)
    assert found.returncode == 1
    assert "allowed_cidrs" in found.stderr
