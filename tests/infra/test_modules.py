"""Every module and example: its form, its sense to Terraform, and its own tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.infra.terraform import INFRA, Terraform, environment
from tests.infra.conftest import Cloud

FOLDERS = sorted(str(file.parent.relative_to(INFRA)) for file in INFRA.glob("*/*/versions.tf"))
TESTED = sorted({str(file.parents[1].relative_to(INFRA)) for file in INFRA.glob("*/*/tests/*.tftest.hcl")})


def test_there_are_modules_and_examples() -> None:
    modules = {"modules/eks-access", "modules/kafka-ec2", "modules/lake"}
    assert {"examples/production", "examples/spark", "examples/tutorial", *modules} <= set(FOLDERS)
    assert {"examples/production", "examples/spark", *modules} <= set(TESTED)


def test_the_files_have_terraforms_form(infra: Path) -> None:
    done = Terraform(infra, environment()).run("fmt", "-check", "-recursive", "-diff", check=False)
    assert done.returncode == 0, f"`terraform fmt -recursive infra` fixes it:\n{done.stdout}"


# `terraform test` validates first, and warns as well.
@pytest.mark.parametrize("folder", sorted({*FOLDERS} - {*TESTED}))
def test_it_is_valid(folder: str, infra: Path) -> None:
    terraform = Terraform(infra / folder, environment())
    terraform.init()
    done = terraform.run("validate", "-no-color", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout, done.stdout


@pytest.mark.parametrize("folder", TESTED)
def test_its_own_tests_pass(folder: str, infra: Path, cloud: Cloud) -> None:
    terraform = Terraform(infra / folder, environment(cloud.endpoint_url))
    terraform.init()
    done = terraform.run("test", "-no-color", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", done.stdout), done.stdout
    assert "Warning" not in done.stdout, done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_variable_and_output_is_described(folder: str) -> None:
    for file in (INFRA / folder).glob("*.tf"):
        for kind, name, block in re.findall(
            r'^(variable|output) "(\w+)" \{\n(.*?)^\}', file.read_text(), re.MULTILINE | re.DOTALL
        ):
            assert re.search(r'^  description = "[A-Z`].{10,}[.:]?"$', block, re.MULTILINE), (
                f"{file}: {kind} {name}"
            )


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_provider_is_pinned_where_it_is_applied(folder: str) -> None:
    version = re.search(
        r'source  = "hashicorp/aws"\n +version = "([^"]+)"', (INFRA / folder / "versions.tf").read_text()
    )
    assert version is not None
    assert version[1] == ("5.100.0" if folder.startswith("examples/") else "~> 5.100")
