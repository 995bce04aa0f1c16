"""A table that a person or another tool wrote: CSV with comma, semicolon or tab, as text."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hardmil.errors import TableError

MISSING = "NA"
"""How R writes an empty cell."""


@dataclass(frozen=True)
class UserTable:
    """The header of a CSV file, and its lines with their numbers; blank lines are left out."""

    path: Path
    header: tuple[str, ...]
    lines: tuple[tuple[int, Mapping[str, str]], ...]

    def require(self, *columns: str) -> None:
        """Check that the columns are there.

        Raises:
            TableError: If one is missing.
        """
        missing = [name for name in columns if name not in self.header]
        if missing:
            raise TableError(
                f"{self.path}: no column {', '.join(missing)}; found "
                f"{', '.join(filter(None, self.header)) or 'an empty header'}; expected {', '.join(columns)}"
            )


def read_user_table(path: Path, *, what: str) -> UserTable:
    """The table in a CSV file, without spaces around cells; a cell NA is empty.

    Args:
        path: The file, in UTF-8.
        what: What it should be, for errors: "a table of slides; `hardmil init` makes one".

    Raises:
        TableError: If the file is missing or not CSV; line and remedy are named.
    """
    text = _text_of(path, what=what)
    first_line = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first_line.count))
    try:
        header = tuple(cell.strip() for cell in next(reader, []))
        read = ((reader.line_num, [_cell(text) for text in cells]) for cells in reader)
        lines = [(number, cells) for number, cells in read if any(cells)]
    except csv.Error as error:
        raise TableError(
            f"{path}, line {reader.line_num}: not CSV ({error}); expected {what}; save it as CSV UTF-8"
        ) from error
    named = ((number, _named(header, cells, where=f"{path}, line {number}")) for number, cells in lines)
    return UserTable(path, header, tuple(named))


def _text_of(path: Path, *, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file; expected {what}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TableError(
            f"{path}, line {line}: not UTF-8; save it as CSV UTF-8 from the spreadsheet"
        ) from error
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror}); expected {what}") from error


def _named(header: tuple[str, ...], cells: list[str], *, where: str) -> Mapping[str, str]:
    if len(cells) > len(header):
        raise TableError(
            f"{where}: {len(cells)} cells under {len(header)} columns; put a cell that contains the "
            "separator in double quotes"
        )
    padded = cells + [""] * (len(header) - len(cells))
    return dict(zip(header, padded, strict=True))


def _cell(text: str) -> str:
    stripped = text.strip()
    return "" if stripped == MISSING else stripped
