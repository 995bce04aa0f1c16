"""Tables as CSV files."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hardmil.files.atomic import write_atomically

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """The rows of a table; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Iterable[Mapping[str, object]], *, columns: Sequence[str]) -> None:
    """Write a table; it appears whole or not at all."""
    with write_atomically(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _text(row.get(name, "")) for name in columns} for row in rows)


def _text(value: object) -> object:
    # Nine digits carry a float32 whole: of confident models, scores differ in the seventh only.
    return f"{value:.9g}" if isinstance(value, float) else value
