"""The calls of the containers to AWS, compared with the policies that Terraform gives their roles."""

from __future__ import annotations

import json
import os
import shutil

import httpx
import pytest

from tests.e2e.conftest import CALLS, PORTS, compose, state
from tests.helpers.analytics.api import tables
from tests.helpers.infra import terraform
from tests.helpers.rights import ACCESS_KEYS, Policy, Right, giving, read_calls, wanted
from tests.helpers.waiting import wait_for

# The local AWS starts empty, so that the analytics service makes what Terraform makes on an account.
MADE_BY_TERRAFORM = {
    "s3:CreateBucket",
    "glue:CreateDatabase",
    "glue:CreateCrawler",
    "iam:PassRole",
    "athena:CreateWorkGroup",
}

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Policy]:
    """The policies by role, as Terraform plans them for the containers' bucket."""
    if shutil.which("terraform") is None:
        missing = "terraform is not on the path: https://developer.hashicorp.com/terraform/install"
        pytest.fail(missing) if "CI" in os.environ else pytest.skip(missing)
    folder = terraform.copy(tmp_path_factory.mktemp("project")) / "modules" / "lake"
    running = terraform.Terraform(folder, terraform.environment(f"http://127.0.0.1:{PORTS['AWS']}"))
    running.init()
    planned = running.planned("-var=bucket=lakefeed")["planned_values"]["outputs"]["policies"]["value"]
    return {role: json.loads(text) for role, text in planned.items()}


def asked(role: str) -> list[Right]:
    """Every right that the calls of a role have wanted up to now."""
    calls = read_calls(compose("exec", "-T", "aws", "cat", CALLS))
    return list(wanted([call for call in calls if call.access_key == ACCESS_KEYS[role]]))


@pytest.fixture(scope="module")
def used(stack: None, api: httpx.Client, request: pytest.FixtureRequest) -> None:
    """The sample is stored, crawled, queried and compacted, whatever ran before."""
    wait_for(lambda: tables(api), 180, "the table", every=1)
    # Before there is an Iceberg table: the local Athena reads its files as the account, like the crawler.
    api.post("/v1/named-queries/latest_price/run").raise_for_status()
    request.getfixturevalue("compactor")
    # The table exists before its first commit.
    wait_for(
        lambda: "glue:UpdateTable" in {right.action for right in asked("compactor")}, 240, state, every=2
    )


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize(
    ("role", "typical"),
    [
        ("consumer", "s3:PutObject"),
        ("analytics", "athena:StartQueryExecution"),
        ("crawler", "glue:CreateTable"),
        ("compactor", "glue:UpdateTable"),
    ],
)
def test_the_policy_of_its_role_allows_every_call(
    role: str, typical: str, policies: dict[str, Policy]
) -> None:
    rights = asked(role)
    assert typical in {right.action for right in rights}
    refused = {right for right in rights if not giving(policies[role], right)}
    unforeseen = [str(right) for right in refused if right.action not in MADE_BY_TERRAFORM]
    assert unforeseen == []
    assert role == "analytics" or not refused
