"""Instances of the local AWS that Terraform is tested against."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import boto3

from tests.infra.conftest import AMI, REGION, Cloud


def test_an_instance_is_as_asked_and_the_same_for_its_token(cloud: Cloud) -> None:
    # Not in the account of the tutorial, whose tests count its volumes.
    session = boto3.Session("111111111111", "unchecked", region_name=REGION)
    with closing(session.client("ec2", endpoint_url=cloud.endpoint_url)) as ec2:
        _check_instances(ec2)


def _check_instances(ec2: Any) -> None:
    asked: dict[str, Any] = {"ImageId": AMI, "MinCount": 1, "MaxCount": 1}
    asked["MetadataOptions"] = {"HttpTokens": "required"}
    asked["BlockDeviceMappings"] = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 12, "VolumeType": "gp3", "Encrypted": True}}
    ]

    answers = [ec2.run_instances(**asked, ClientToken=token) for token in ("a", "a", "b")]

    first, again, other = (answer["Instances"][0]["InstanceId"] for answer in answers)
    assert first == again != other
    [described] = ec2.describe_instances(InstanceIds=[first])["Reservations"][0]["Instances"]
    assert described["MetadataOptions"]["HttpTokens"] == "required"
    root = described["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    [volume] = ec2.describe_volumes(VolumeIds=[root])["Volumes"]
    assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (12, "gp3", True)
