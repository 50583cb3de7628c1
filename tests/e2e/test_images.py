"""The images contain our code and the packages of the lock, and nothing else of the checkout."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from supply.sbom import PARTS, bill
from tests.e2e.conftest import ROOT, docker

PLANTED = "planted-secret-3e1b"
BASE = "python:3.13-slim-trixie"
# Where the base image and the packages keep certificates of their own.
_CERTIFICATES = re.compile(
    r"^/(etc/ssl|usr/share/ca-certificates|usr/lib/ssl)/|/certifi/|/botocore/|/tests?/"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build may see, with secrets in the places where people leave them."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in ("common", *PARTS):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".dockerignore", folder)
    (folder / "supply").mkdir()
    shutil.copy(ROOT / "supply" / "slim.py", folder / "supply")
    for place in (".env", ".git/config", "tests/key.pem", "data/prices.csv", "common/lakefeed_common/.env"):
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PLANTED)
    for part in PARTS:
        for name in (".env", "key.pem", "client.key"):
            (folder / part / f"lakefeed_{part}" / name).write_text(PLANTED)
    return folder


@pytest.fixture(scope="module", params=PARTS)
def image(request: pytest.FixtureRequest, checkout: Path) -> Iterator[str]:
    """An image built there, with secrets in the environment too."""
    part = str(request.param)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAKEFEED_KAFKA_SASL_PASSWORD"):
            patch.setenv(name, PLANTED)
        tag = f"lakefeed-planted-{part}"
        docker("build", "--file", f"{checkout}/{part}/Dockerfile", "--tag", tag, str(checkout))
    yield tag
    docker("image", "rm", "--force", tag)


def inside(image: str, script: str) -> str:
    return docker("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", script)


def part_of(image: str) -> str:
    return image.rsplit("-", 1)[1]


def test_no_secret_is_in_a_layer_or_in_the_configuration(image: str, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    docker("save", "--output", str(archive), image)
    with archive.open("rb") as content:
        before = b""
        while block := content.read(1 << 24):
            assert PLANTED.encode() not in before[-100:] + block
            before = block
    config = json.loads(docker("image", "inspect", image))[0]["Config"]
    assert not [variable for variable in config["Env"] if re.search(r"SECRET|PASSWORD|TOKEN|AWS_", variable)]
    assert config["User"] == "10001:10001"
    assert not re.search(r"SECRET|PASSWORD|TOKEN", docker("history", "--no-trunc", image))


def test_only_code_of_the_checkout_is_there(image: str) -> None:
    files = inside(image, "find / -xdev -type f ! -path '/proc/*' 2>/dev/null || true").split("\n")
    assert len(files) > 1000
    secret = [file for file in files if re.search(r"/\.env|\.pem$|\.key$|/\.git/|/id_rsa", file)]
    assert [file for file in secret if not _CERTIFICATES.search(file)] == []
    ours = [file for file in files if "/lakefeed_" in file and ".dist-info/" not in file]
    packages = {file.split("/lakefeed_", 1)[1].split("/")[0] for file in ours if "/site-packages/" in file}
    assert packages == {"common", part_of(image)}
    strangers = {"prices.csv", "docker-compose.yml", "requirements.lock"}
    assert not strangers & {Path(file).name for file in files}
    # What is in /app is a package of the lock, as uv in the local AWS's.
    system = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert inside(image, f"{system}; for each in gcc cc make uv git; do command -v $each; done; true") == ""


def test_the_code_belongs_to_root_and_can_only_be_read(image: str) -> None:
    assert (
        inside(image, "test -d /app && find /app ! -type l \\( -perm /022 -o ! -user root \\) | head") == ""
    )


def test_the_bill_of_materials_is_what_is_installed(image: str) -> None:
    part = part_of(image)
    script = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    found = docker("run", "--rm", "--entrypoint", "/app/bin/python", image, "-c", script).split()
    installed = {_normal(each) for each in found if not each.startswith("lakefeed")}
    listed = {
        _normal(f"{component.name}=={component.version}")
        for component in bill(part).components
        if component.purl and component.purl.type == "pypi"
    }
    # The local AWS has an environment of its own.
    assert installed <= listed if part == "local" else installed == listed


def test_debians_packages_are_those_of_the_base_image(image: str) -> None:
    script = "dpkg-query --show --showformat '${Package} ${Version}\\n'"
    packages = inside(image, script)
    assert "libc6 " in packages
    assert packages == inside(BASE, script)
    folder = ROOT / "build" / "sbom"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part_of(image)}.debian.txt").write_text(packages)


def _normal(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", requirement.split("==")[0]).lower() + "==" + requirement.split("==")[1]
