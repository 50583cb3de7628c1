"""What is applied where an image cannot be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from k8s.check.manifests import Rendering
from k8s.check.render import ROOT, Kustomization, render
from k8s.cluster import OVERLAY, ClusterError, leave_out

LOCAL = Kustomization("overlays/local", OVERLAY)


@pytest.fixture(scope="module")
def local() -> Rendering:
    """The overlay, which kubectl takes a second to render."""
    return render(LOCAL)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Kustomize takes no absolute path to the overlay."""
    (ROOT / "build").mkdir(exist_ok=True)
    with TemporaryDirectory(dir=ROOT / "build") as made:
        yield Path(made)


def test_monitoring_without_its_images_is_left_out(
    folder: Path, local: Rendering, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {pod.owner.name: pod for pod in local.pods()}
    lacking = {before[name].containers[0].image for name in ("prometheus", "grafana")}
    patches = leave_out(before.values(), lacking)
    made = {"kind": "Kustomization", "resources": [os.path.relpath(OVERLAY, folder)], "patches": patches}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
    after = {pod.owner.name for pod in render(Kustomization("without", folder)).pods()}
    assert before.keys() - after == {"prometheus", "grafana"}
    assert capsys.readouterr().err.count("skipped: ") == 2


def test_a_pipeline_without_its_image_is_refused(local: Rendering) -> None:
    pods = list(local.pods())
    image = next(each.image for pod in pods for each in pod.containers if each.name == "kafka")
    with pytest.raises(ClusterError, match=f"docker pull {image}"):
        leave_out(pods, {image})
