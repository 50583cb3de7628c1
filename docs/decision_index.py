"""Generates docs/decisions/README.md, the list of decisions."""

from __future__ import annotations

from pathlib import Path

from docs.markdown import NOTE

FOLDER = Path(__file__).resolve().parent / "decisions"
_HEAD = f"""{NOTE}

# Decisions

Why Lakefeed is built the way it is, about a dozen lines each.

"""


def document() -> str:
    """The whole document: one line per decision, by number."""
    files = sorted(file for file in FOLDER.glob("*.md") if file.name != "README.md")
    return _HEAD + "".join(f"- [{_title(file)}]({file.name})\n" for file in files)


def _title(file: Path) -> str:
    """Number and title, from the first line: `# 7. Title`, or `# 0007: Title`."""
    heading = file.read_text().partition("\n")[0].removeprefix("# ")
    number, _, title = heading.replace(":", ".", 1).partition(". ")
    return f"{int(number)}. {title}"
