"""docs/deploy.md fills in the overlay for EKS from what Terraform made: its commands, run as written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from k8s.check.environment import check_variables, variables
from k8s.check.render import Kustomization, render
from tests.helpers.infra.terraform import ROOT, Terraform
from tests.infra.conftest import Tutorial

ROLES = {
    name: f"arn:aws:iam::123456789012:role/lakefeed-eks-{name}"
    for name in ("analytics", "compactor", "consumer", "maintain", "producer")
}
BROKER = "127.0.0.1:9092"
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def fill_in(project: Path, environment: dict[str, str]) -> None:
    """The block that makes the settings; what needs a broker or a cluster is left out."""
    text = (ROOT / "docs" / "deploy.md").read_text()
    (block,) = re.findall(r"^```sh\n(overlay\(\).*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands, _, _ = block.replace('eval "$(tutorial settings_command)"\n', "").partition("kubectl ")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_overlay_is_filled_in_with_what_terraform_made(tutorial: Tutorial, tmp_path: Path) -> None:
    for name in ("k8s", "broker", "data", "monitoring"):
        shutil.copytree(ROOT / name, tmp_path / name)
    # The roles want an EKS cluster, which the local AWS has not; the lake's settings are those that it has.
    folder = tmp_path / "infra" / "examples" / "tutorial"
    folder.mkdir(parents=True)
    outputs = {"settings": {"value": tutorial.outputs["settings"]}, "role_arns": {"value": ROLES}}
    (folder / "main.tf.json").write_text(json.dumps({"output": outputs}))
    made = Terraform(folder, tutorial.terraform.environment)
    made.apply()
    given = {"LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": BROKER, "registry": REGISTRY}
    fill_in(tmp_path, {**tutorial.terraform.environment, **given})
    file = tmp_path / "k8s" / "overlays" / "aws" / "kustomization.yaml"
    file.write_text(
        file.read_text()
        .replace("components/msk-iam", "components/tls\n  - ../../components/sasl")
        .replace("# - ../../components/compactor", "- ../../components/compactor")
    )

    overlay = render(Kustomization("overlays/aws", file.parent))
    assert list(check_variables(overlay)) == []
    for name, role in ROLES.items():
        account = overlay.find("ServiceAccount", name)
        assert account is not None
        assert account.body["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": role}
        (container,) = (each for pod in overlay.pods() for each in pod.containers if each.name == name)
        image = name if name in ("analytics", "consumer", "producer") else "analytics"
        assert container.image.startswith(f"{REGISTRY}/lakefeed-{image}:")
        assert variables(overlay, container).items() >= tutorial.outputs["settings"].items()
        assert variables(overlay, container)["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"] == BROKER
    policy = overlay.find("NetworkPolicy", "to-kafka")
    assert policy is not None
    assert policy.spec["egress"][0]["to"] == [{"ipBlock": {"cidr": "127.0.0.1/32"}}]
