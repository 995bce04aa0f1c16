"""A table that a person or another tool wrote: CSV with comma, semicolon or tab, as text."""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hardmil.budget import TABLE_BYTES, read_bytes
from hardmil.errors import TableError
from hardmil.files.formula import plain_text

MISSING = frozenset(
    (
        *("NA", "N/A", "nan", "NaN", "NAN", "<NA>", "NULL", "null"),
        *("#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!"),
    )
)
"""How R, pandas and databases write an empty cell, and how a spreadsheet writes a formula that failed."""
_INVISIBLE = {0x200B: None, 0x2060: None, 0xFEFF: None, 0xA0: " "}
"""Characters without width, which come with text from web pages, and the space that does not break."""


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
    """The table in a CSV file, without spaces around cells; a cell in `MISSING` is empty.

    Letters with marks are composed (NFC), so that the same name is the same text, whatever program wrote it.

    Args:
        path: The file, in UTF-8, or in UTF-16 as the Unicode text of a spreadsheet.
        what: What it should be, for errors: "a table of slides; `hardmil init` makes one".

    Raises:
        TableError: If the file is missing or not CSV; line and remedy are named.
    """
    text = _text_of(path, what=what)
    first_line = text.split("\n", 1)[0]
    stated = re.fullmatch(r'"?sep=(.)"?', first_line.strip(" "), flags=re.IGNORECASE)
    delimiter = stated.group(1) if stated else max(",;\t", key=first_line.count)
    # Strict, or a quote that is not closed would take all lines up to the next one into its cell.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start, lines = 1, []
    try:
        if stated:
            next(reader)
        header = tuple(cell.strip() for cell in next(reader, []))
        start = reader.line_num + 1
        for cells in reader:
            lines.append((reader.line_num, [_cell(text) for text in cells]))
            start = reader.line_num + 1
    except csv.Error as error:
        raise TableError(
            f"{path}, line {start}: not CSV ({error}); expected {what}; a cell that begins with a double "
            "quote must end with one: correct it, or save the table as CSV UTF-8"
        ) from error
    named = (
        (number, _named(header, cells, where=f"{path}, line {number}"))
        for number, cells in lines
        if any(cells)
    )
    return UserTable(path, header, tuple(named))


def _text_of(path: Path, *, what: str) -> str:
    try:
        content = read_bytes(path, most=TABLE_BYTES)
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file; expected {what}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TableError(
            f"{path}, line {line}: not UTF-8; save it as CSV UTF-8 from the spreadsheet"
        ) from error
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror}); expected {what}") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", lines.translate(_INVISIBLE))


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
    return "" if stripped in MISSING else plain_text(stripped)
