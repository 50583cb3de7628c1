"""Writes what each image is made of as CycloneDX JSON: `python -m supply.sbom [FOLDER]`, or `make sbom`.

From the locks, and so without Docker: an image has what its lock names, by the hashes that are in it. The
packages of Debian below are the base image's, and are not listed here.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from supply.locks import MINISTACK, ROOT, Package, jars, python_packages

PARTS = ("producer", "consumer", "analytics", "local")


def packages(part: str) -> Iterator[Package]:
    """What the image of a part contains in addition to our own code."""
    yield from python_packages(ROOT / part / "requirements.lock")
    if part == "local":
        yield from python_packages(MINISTACK)
        # Kafka runs in its own image; this one provides its metrics agent.
        yield from (jar for jar in jars() if jar.name == "jmx_prometheus_javaagent")


def bill(part: str) -> Bom:
    """The bill of materials of a part's image."""
    image = _own(part, ComponentType.CONTAINER)
    components = [_own("common"), _base_image(part), *_components(packages(part))]
    bom = Bom(components=components)
    bom.metadata.component = image
    bom.register_dependency(image, components)
    return bom


def _components(found: Iterable[Package]) -> Iterator[Component]:
    for package in sorted(set(found), key=lambda each: (each.kind, each.group, each.name, each.version)):
        url = PackageURL(package.kind, package.group or None, package.name, package.version)
        yield Component(
            name=package.name,
            group=package.group or None,
            version=package.version,
            type=ComponentType.LIBRARY,
            purl=url,
            bom_ref=url.to_string(),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in package.hashes],
        )


def _own(part: str, kind: ComponentType = ComponentType.LIBRARY) -> Component:
    project = tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    return Component(name=name, version=version, type=kind, bom_ref=f"{name}@{version}")


def _base_image(part: str) -> Component:
    """The image that a Dockerfile's last stage starts from."""
    *_, image = re.findall(r"^FROM (\S+)$", (ROOT / part / "Dockerfile").read_text(), re.MULTILINE)
    name, _, tag = image.partition(":")
    return Component(name=name, version=tag, type=ComponentType.CONTAINER, bom_ref=image)


def main(folder: Path) -> None:
    """Write a file for each part."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        bom = bill(part)
        file = folder / f"{part}.json"
        file.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")
        print(f"{file}: {len(bom.components)} components")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "sbom")
