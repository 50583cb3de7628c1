"""CSV files generated from a seed, and the JSON lines of the same rows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

_SEED = 20130301
_TICKERS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
_HEADER = "Ticker,Date,Open,High,Low,Close,Volume,Adj Close"
# Rows are generated once and repeated with another volume: generating ten million would take minutes.
_DRAWN = 10_000


def write_prices(path: Path, rows: int) -> None:
    """Rows like those of data/prices.csv, about 70 bytes each, with some empty fields."""
    drawn = list(_draw())
    with path.open("w") as file:
        file.write(f"{_HEADER}\n")
        for first in range(0, rows, _DRAWN):
            chunk = drawn[: min(_DRAWN, rows - first)]
            file.writelines(f"{head}{first + number},{tail}\n" for number, (head, tail) in enumerate(chunk))


def write_small(path: Path, rows: int) -> None:
    """Rows of about 20 bytes: a number, a price, whether it is in stock."""
    with path.open("w") as file:
        file.write("id,price,in_stock\n")
        for first in range(0, rows, _DRAWN):
            last = min(first + _DRAWN, rows)
            file.writelines(
                f"{number},{number % 997}.{number % 90 + 10},true\n" for number in range(first, last)
            )


def write_json_lines(csv: Path, path: Path) -> None:
    """The events of a CSV file by `write_prices`, one per line, as input for kcat."""
    names = [name.lower().replace(" ", "_") for name in _HEADER.split(",")]
    with csv.open() as rows, path.open("w") as lines:
        next(rows)
        for row in rows:
            values = row.rstrip("\n").split(",")
            texts, numbers = values[:2], values[2:]
            pairs = [f'"{name}":{json.dumps(text)}' for name, text in zip(names, texts, strict=False)]
            pairs += [f'"{name}":{number or "null"}' for name, number in zip(names[2:], numbers, strict=True)]
            lines.write(f"{{{','.join(pairs)}}}\n")


def _draw() -> Iterator[tuple[str, str]]:
    """The parts of a row before and after its volume."""
    random_numbers = random.Random(_SEED)  # noqa: S311 - not for secrets
    for _ in range(_DRAWN):
        low, high = sorted(random_numbers.uniform(5, 800) for _ in range(2))
        day = f"20{random_numbers.randrange(10, 26)}-{random_numbers.randrange(1, 13):02d}-15"
        prices = [random_numbers.uniform(low, high), high, low, random_numbers.uniform(low, high)]
        fields = [f"{price:.3f}" for price in prices]
        if random_numbers.random() < 0.01:
            fields[0] = ""
        adjusted = f"{prices[3] * random_numbers.uniform(0.1, 1):.12f}"
        yield f"{random_numbers.choice(_TICKERS)},{day},{','.join(fields)},", adjusted
