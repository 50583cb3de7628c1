"""Checks wording: `python -m docs.wording` lists words and phrases that this project does not use.

It reads documentation, code, comments, messages and names. Identifiers are split at `_`, so that
`test_it_is_told` is found as well.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Phrases as regular expressions, with what to write instead.
AVOIDED = {
    r"anew|made again": "again, recreated",
    r"at the (?:most|least)": "at most, at least, maximum, minimum",
    r"for ever": "forever, indefinitely",
    r"go(?:es)? on by itself|go(?:es)? on": "continues, resumes, recovers automatically",
    r"(?:is|are|was|goes|stays?) away": "is unreachable, is unavailable",
    r"is told|told|tells? (?:of|it|once|that|how|what|why|which|whether)": "is reported, logs, returns",
    r"in vain": "failed",
    r"wants": "requires, needs, expects",
    r"lies? (?:in|at|under|on|beside)|lie": "is in, is stored at",
    r"mend(?:s|ed|ing)?": "fixes, repairs",
    r"nobody|somebody": "no consumer, another process, a user (name it)",
    r"now and then": "periodically, occasionally",
    r"of its own accord": "automatically",
    r"one's own": "your own",
    r"patience": "timeout",
    r"put aside|set aside|sets aside": "rejected, stored as a dead letter",
    r"quarter of an hour": "15 minutes",
    r"seldom": "rarely",
    r"so many": "this many, a number",
    r"stands? (?:still|there|beside|by itself|for itself|in the place)": "is, stops",
    r"taken back": "aborted, revoked",
    r"(?:is|are) no events?(?! (?:is|are|of|to|below|above|after|before|in)\b)": "is not a valid event",
    r"(?:that|which|what) is no(?! longer)|is no (?:matter|news|business)": "is not a",
    r"the tutorials' (?:way|agent)": "tutorial code, tutorial agent",
    r"(?:is|be|was|were|are) taken for|takes? (?:it |them |that )?for an?": "is mistaken for, is read as",
    r"whoever": "say who",
    r"beside|besides": "next to, in addition to, compared with",
    r"beyond doubt|a doubt|each doubt": "confirmed, unconfirmed",
    r"comes? about": "happens",
    r"how (?:a query|it|they|things|queries) stands?": "status",
    r"(?:events|rows|puts|records|requests|messages) a second(?! time)": "events/s, rows per second",
    r"(?:CPU|one|put|cost) an event": "per event",
}

SUFFIXES = {".md", ".py", ".yml", ".yaml", ".tf", ".sql", ".toml", ".sh", ".hcl"}
NAMES = {"Makefile", "Dockerfile", ".env.example", "lakefeed-kafka"}

# Files that quote the phrases.
_QUOTING = {"docs/wording.py", "tests/unit/docs/test_wording.py"}


def found(text: str) -> Iterator[tuple[int, str, str]]:
    """The avoided phrases in a text: line number, phrase, and what to write instead.

    A phrase may continue on the next line of a paragraph or comment.
    """
    # Positions are kept, for the line numbers.
    plain = re.sub(r"_|(?<=\n)([ \t]*)(?:#|//|--)", lambda match: " " * len(match[0]), text)
    for pattern, replacement in _PATTERNS.items():
        for match in pattern.finditer(plain):
            phrase = " ".join(match[0].split())
            yield plain.count("\n", 0, match.start()) + 1, phrase, replacement


def _compiled(phrase: str) -> re.Pattern[str]:
    spaced = phrase.replace(" ", r"\s+")
    return re.compile(rf"\b(?:{spaced})\b", re.IGNORECASE)


_PATTERNS = {_compiled(phrase): replacement for phrase, replacement in AVOIDED.items()}


def files() -> Iterator[Path]:
    """The committed files to check."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        path = ROOT / name
        if name in _QUOTING or not path.is_file():
            continue
        if path.suffix in SUFFIXES or path.name in NAMES:
            yield path


def main() -> int:
    """Print each avoided phrase with its position; returns 1 if there are any."""
    problems = [
        f"{path.relative_to(ROOT)}:{line}: “{phrase}”; write instead: {replacement}"
        for path in files()
        for line, phrase, replacement in sorted(found(path.read_text(encoding="utf-8")))
    ]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
