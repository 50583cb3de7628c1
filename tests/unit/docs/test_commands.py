"""The documents' shell commands can be parsed, and the files, targets and outputs that they name exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from monitoring.catalogue import ROOT

EXAMPLES = ROOT / "infra" / "examples"
DOCUMENTS = [
    "README.md",
    "infra/README.md",
    *(
        f"docs/{name}.md"
        for name in ("aws", "deploy", "kubernetes", "operations", "publishing", "querying", "secured-brokers")
    ),
]


def blocks(document: str) -> list[str]:
    """The shell commands of a document, block by block."""
    return re.findall(r"^```sh\n(.*?)^```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


def declared(kind: str, *files: Path, text: str = "") -> set[str]:
    """The names of Terraform's variables or outputs."""
    texts = [text, *(file.read_text() for file in files)]
    return {name for each in texts for name in re.findall(rf'^{kind} "(\w+)" {{', each, re.MULTILINE)}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_shell_can_parse_them(document: str) -> None:
    assert blocks(document)
    for block in blocks(document):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"


def test_terraform_outputs_exist() -> None:
    named = set()
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        # A document may add outputs of its own.
        own = declared("output", text=text)
        for example in ("tutorial", "production"):
            there = own | declared("output", EXAMPLES / example / "outputs.tf")
            pattern = rf"-chdir=infra/examples/{example} output (?:-\w+ )?(\w+)"
            found = set(re.findall(pattern, text))
            if example == "tutorial":
                found |= set(re.findall(r"(?:^|\$\()tutorial (\w+)", text, re.MULTILINE))
            assert found <= there, f"{document}: {example}"
            named |= found
    assert {"publish_command", "settings_command", "aws_config", "connect_command"} <= named


def test_terraform_variables_exist() -> None:
    count = 0
    for document in DOCUMENTS:
        for block in blocks(document):
            folder = ""
            for line in block.splitlines():
                if match := re.search(r"infra/examples/(\w+)", line):
                    folder = match[1]
                if match := re.match(r"(\w+) +=.*[\]\"]$", line):
                    assert match[1] in declared("variable", EXAMPLES / folder / "variables.tf"), line
                    count += 1
    assert count > 10


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_targets_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for path in re.findall(r"(?<![\w/.])(?:infra|k8s|docs|data|tests|analytics)/[\w./-]+", text):
        # Files that the reader creates.
        if not path.endswith((".tfvars", "eks.tf")):
            assert (ROOT / path.rstrip(".")).exists(), path
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in blocks(document):
        for target in re.findall(r"^make ([a-z][a-z0-9-]*)", block, re.MULTILINE):
            assert target in targets, target


LINKING = [
    "README.md",
    "CONTRIBUTING.md",
    *("infra/README.md", "data/README.md"),
    *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]


def anchors(file: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub generates them."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", LINKING)
def test_links_lead_somewhere(document: str) -> None:
    file = ROOT / document
    for target in re.findall(r"\]\(((?!https?://)[^)\s]+)\)", file.read_text()):
        path, _, anchor = target.partition("#")
        linked = (file.parent / path) if path else file
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target
