"""What explains a finding of the policy scan, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8s.check import scan
from k8s.check.manifests import Finding, Rendering, Resource
from tests.helpers.manifests import container, good

PRIVILEGED = "CKV_K8S_16"


@pytest.fixture(scope="module")
def privileged() -> list[Rendering]:
    if not (scan.ENVIRONMENT / "bin" / "python").exists():
        pytest.skip("the policy scanner is set up by `make k8s-check`, which fails without it")
    bodies = good()
    container(bodies)["securityContext"]["privileged"] = True
    return [Rendering("overlays/x", tuple(Resource(body) for body in bodies.values()))]


def test_a_privileged_pod_is_found(privileged: list[Rendering]) -> None:
    found = [each for each in scan.scan(privileged, []) if each.message.startswith(PRIVILEGED)]
    assert [each.resource for each in found] == ["Deployment.consumer"]


def test_a_skip_explains_its_finding_and_no_other(privileged: list[Rendering]) -> None:
    skips = [
        scan.Skip(PRIVILEGED, r"Deployment\.consumer", "for the test"),
        scan.Skip(PRIVILEGED, r"Deployment\.other", "for the test"),
    ]
    found = scan.scan(privileged, skips)
    assert not [each for each in found if each.message.startswith(f"{PRIVILEGED}: ")]
    idle = f"{PRIVILEGED} for Deployment\\.other explains no finding: remove it"
    assert Finding("policy scan", "skips.yaml", idle) in found


def test_a_skip_without_a_reason_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "skips.yaml"
    file.write_text("- { check: CKV_K8S_1, resource: .*, reason: '' }\n")
    with pytest.raises(scan.CannotScanError, match="check, resource and reason"):
        scan.read_skips(file)


def test_the_projects_own_skips_have_reasons() -> None:
    assert all(len(skip.reason) > 40 for skip in scan.read_skips())


def test_a_scanner_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scan, "ENVIRONMENT", tmp_path)
    with pytest.raises(scan.CannotScanError, match="make k8s-check"):
        scan.scan([], [])
