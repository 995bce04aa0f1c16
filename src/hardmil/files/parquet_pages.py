"""What the pages of a Parquet column become in memory, found before they are decompressed.

The footer of a file says how large its columns are, but nothing makes it true: a page of 1 kB can hold
megabytes of zeros. The header of each page says what its buffer takes, and the decompressor fills no
more than that. Both are read here, because pyarrow gives no headers of pages, and ends the process on some
damaged footers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hardmil.budget import too_large_for
from hardmil.files.thrift import ThriftError, read_struct

_PLAIN = 0
_ENCODINGS = {
    _PLAIN: "PLAIN",
    2: "PLAIN_DICTIONARY",
    3: "RLE",
    5: "DELTA_BINARY_PACKED",
    8: "RLE_DICTIONARY",
}
"""Encodings that hold each value whole; the others build values from those before."""
_HEADER_BYTES = 1 << 16
_FOOTER_END = 8
"""Bytes after the footer: its length, and a magic number."""
_ROW_GROUPS, _COLUMNS, _ABOUT = 4, 1, 3
_PATH, _TOTAL, _DATA_AT, _DICTIONARY_AT = 3, 7, 9, 11
"""Fields of the footer, of a row group, and of a column in it."""
_SIZE, _STORED = 2, 3
_ENCODING_OF = {5: 2, 8: 4}
"""Fields of a page header: its sizes, and the encoding in the header of its data, of version 1 and 2."""


def pages_problem(path: Path, *, columns: tuple[str, ...]) -> str | None:
    """Why columns of a file are not read, for a message; None if they may be.

    Args:
        path: The file.
        columns: Names of columns that are not nested.

    Source: `FileMetaData` and `PageHeader` in `parquet.thrift` of the Parquet format 2.10.
    """
    total, stored = 0, path.stat().st_size
    with path.open("rb") as file:
        try:
            for column in _columns(file, size=stored, names=columns):
                total += _column_bytes(file, column)
                reason = too_large_for(total, stored=stored)
                if reason is not None:
                    return f"takes {reason}"
        except ThriftError as error:
            return f"has a header that {error}"
    return None


def _columns(file: BinaryIO, *, size: int, names: tuple[str, ...]) -> Iterator[dict[int, Any]]:
    """What the footer says of each wanted column in each row group."""
    file.seek(max(size - _FOOTER_END, 0))
    length = int.from_bytes(file.read(4), "little")
    file.seek(max(size - _FOOTER_END - length, 0))
    footer, _ = read_struct(file.read(length))
    for group in _structs(footer.get(_ROW_GROUPS)):
        for column in _structs(group.get(_COLUMNS)):
            about = column.get(_ABOUT)
            if isinstance(about, dict) and about.get(_PATH) in [[name.encode()] for name in names]:
                yield about


def _structs(value: object) -> Iterator[dict[int, Any]]:
    yield from (one for one in (value if isinstance(value, list) else ()) if isinstance(one, dict))


def _column_bytes(file: BinaryIO, column: dict[int, Any]) -> int:
    """What the pages of a column in one row group become together.

    Raises:
        ThriftError: If a header cannot be read, or an encoding is none of `_ENCODINGS`.
    """
    first = _number(column, _DATA_AT)
    at = min(first, _number(column, _DICTIONARY_AT) if _DICTIONARY_AT in column else first)
    end, total = at + _number(column, _TOTAL), 0
    while at < end:
        file.seek(at)
        header, length = read_struct(file.read(_HEADER_BYTES))
        for kind, field in _ENCODING_OF.items():
            data = header.get(kind)
            encoding = _number(data, field) if isinstance(data, dict) else _PLAIN
            if encoding not in _ENCODINGS:
                raise ThriftError(f"names the encoding {encoding}; expected {', '.join(_ENCODINGS.values())}")
        total += _number(header, _SIZE)
        at += length + _number(header, _STORED)
    return total


def _number(fields: dict[int, Any], field: int) -> int:
    """A field that is a number, and not negative."""
    found = fields.get(field)
    if not isinstance(found, int) or found < 0:
        raise ThriftError(f"has no number in field {field}")
    return found
