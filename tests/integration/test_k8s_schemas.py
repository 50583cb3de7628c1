"""Custom resources against the models of their releases, which take seconds to load."""

from __future__ import annotations

from k8s.check import schemas
from k8s.check.checks import check_schemas
from tests.helpers.manifests import good, rendering, said

CUSTOM = {kind: body for kind, body in good().items() if body["apiVersion"] in schemas.CUSTOM}


def test_custom_resources_are_held_against_their_models() -> None:
    assert {body["apiVersion"] for body in CUSTOM.values()} == set(schemas.CUSTOM)
    assert said(check_schemas([rendering(CUSTOM)])) == []
    wrong = good()["PodMonitor"]
    wrong["spec"]["jobLable"] = "x"
    assert said(check_schemas([rendering({"PodMonitor": wrong})])) == [
        "overlays/x: PodMonitor/consumer (k8s/x.yaml): monitoring.coreos.com/v1: spec: Additional properties "
        "are not allowed ('jobLable' was unexpected)"
    ]
