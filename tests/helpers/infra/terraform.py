"""Runs Terraform in a copy of the project's folder `infra`, so that the checkout stays as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakefeed_local.files import locked
from lakefeed_local.settings import CacheSettings

ROOT = Path(__file__).resolve().parents[3]
INFRA = ROOT / "infra"


def copy(folder: Path) -> Path:
    """Copy `infra` and the files that its modules read outside of it; returns the copy of `infra`."""
    for name in ("infra", "broker"):
        ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder / "infra"


def environment(endpoint_url: str = "", access_key: str = "terraform") -> dict[str, str]:
    """Variables with which Terraform finds the local AWS, and nothing of this computer's own account."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_VAR_"))}
    if not Path(kept.get("TF_CLI_CONFIG_FILE", "/")).is_file():
        # Terraform warns of a file that is not there, each time.
        kept.pop("TF_CLI_CONFIG_FILE", None)
    if not kept.get("TF_PLUGIN_DIR"):
        # The provider is downloaded once for all folders.
        cache = CacheSettings().cache / "terraform"
        cache.mkdir(parents=True, exist_ok=True)
        kept.setdefault("TF_PLUGIN_CACHE_DIR", str(cache))
    return kept | {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": "unchecked",
        "AWS_REGION": "us-east-1",
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
    }


@dataclass(frozen=True)
class Terraform:
    """Terraform in a folder; `TF_PLUGIN_DIR` names one of providers, where no registry can be reached."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of Terraform; a failure shows its output."""
        done = subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"terraform {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        )
        return done

    def init(self) -> None:
        if plugins := self.environment.get("TF_PLUGIN_DIR"):
            self.run("init", "-no-color", f"-plugin-dir={plugins}")
            return
        # Terraform's cache of providers bears one writer.
        with locked(Path(self.environment["TF_PLUGIN_CACHE_DIR"], "lakefeed.lock")):
            self.run("init", "-no-color")

    def apply(self, *options: str) -> None:
        self.run("apply", "-auto-approve", "-no-color", *options)

    def destroy(self, *options: str) -> None:
        self.run("destroy", "-auto-approve", "-no-color", *options)

    def outputs(self) -> dict[str, Any]:
        outputs = json.loads(self.run("output", "-json").stdout)
        return {name: output["value"] for name, output in outputs.items()}

    def planned(self, *options: str) -> dict[str, Any]:
        """A plan, as `terraform show -json` has it."""
        self.run("plan", "-no-color", "-out=plan", *options)
        plan: dict[str, Any] = json.loads(self.run("show", "-json", "plan").stdout)
        return plan

    def changes(self) -> list[str]:
        """What an apply would do now: `update aws_glue_crawler.this`, with the attributes that differ."""
        return [
            f"{'+'.join(each['change']['actions'])} {each['address']}: {_differing(each['change'])}"
            for each in self.planned()["resource_changes"]
            if each["mode"] == "managed" and each["change"]["actions"] != ["no-op"]
        ]


def _differing(change: Mapping[str, Any]) -> list[str]:
    before, after = change["before"] or {}, change["after"] or {}
    return sorted(name for name in after if before.get(name) != after[name])
