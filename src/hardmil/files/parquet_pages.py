"""What the pages of a Parquet column become in memory, found before they are decompressed.

The footer of a file says how large its columns are, but nothing makes it true: a file of 1 kB can hold pages
of gigabytes. The header of each page says what its buffer takes, and the decompressor fills no
more than that.
"""

from pathlib import Path
from typing import Any, BinaryIO

from hardmil.budget import too_large_for

_PLAIN, _ENCODINGS = (
    0,
    {0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 5: "DELTA_BINARY_PACKED", 8: "RLE_DICTIONARY"},
)
"""Encodings that hold each value whole; the others build values from those before."""
_HEADER_BYTES, _MAX_DEPTH = 1 << 16, 4
_SIZE, _STORED, _DATA, _DATA_2 = 2, 3, 5, 8
_DATA_ENCODING = {_DATA: 2, _DATA_2: 4}
"""Fields of a page header, and of the header of its data."""
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, 12
"""Types of the compact protocol of Thrift."""


class _HeaderError(Exception):
    """A page header that cannot be read."""


def pages_problem(path: Path, metadata: Any, *, columns: tuple[str, ...]) -> str | None:
    """Why columns of a file are not read, for a message; None if they may be.

    Args:
        path: The file.
        metadata: `pyarrow.parquet.FileMetaData` of the file.
        columns: Names of columns that are not nested.

    Source: `PageHeader` in `parquet.thrift` of the Parquet format 2.10, and the compact protocol of Thrift.
    """
    total, stored = 0, path.stat().st_size
    with path.open("rb") as file:
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for one in (row_group.column(i) for i in range(row_group.num_columns)):
                if one.path_in_schema not in columns:
                    continue
                try:
                    total += _column_bytes(file, one)
                except _HeaderError as error:
                    return f"its pages {error}"
                reason = too_large_for(total, stored=stored)
                if reason is not None:
                    return f"takes {reason}"
    return None


def _column_bytes(file: BinaryIO, column: Any) -> int:
    """What the pages of a column in one row group become together.

    Raises:
        _HeaderError: If a header cannot be read, or an encoding is none of `_ENCODINGS`.
    """
    at = min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset)
    end, total = at + column.total_compressed_size, 0
    while at < end:
        file.seek(at)
        header, length = _struct(file.read(_HEADER_BYTES), 0)
        size, stored = header.get(_SIZE), header.get(_STORED)
        if not isinstance(size, int) or not isinstance(stored, int) or size < 0 or stored < 0:
            raise _HeaderError("give no size")
        for kind, field in _DATA_ENCODING.items():
            data = header.get(kind)
            encoding = data.get(field) if isinstance(data, dict) else _PLAIN
            if encoding not in _ENCODINGS:
                raise _HeaderError(f"are encoded as {encoding}; expected {', '.join(_ENCODINGS.values())}")
        total += size
        at += length + stored
    return total


def _struct(content: bytes, at: int, *, depth: int = 0) -> tuple[dict[int, object], int]:
    """The fields of a struct by their numbers, and the position after it."""
    fields: dict[int, object] = {}
    field = 0
    if depth > _MAX_DEPTH:
        raise _HeaderError("have a header of too many levels")
    try:
        while content[at]:
            kind, step = content[at] & 15, content[at] >> 4
            at += 1
            if step:
                field += step
            else:
                field, at = _integer(content, at)
            fields[field], at = _value(content, at, kind, depth=depth)
    except IndexError:
        raise _HeaderError("are cut") from None
    return fields, at + 1


def _value(content: bytes, at: int, kind: int, *, depth: int) -> tuple[object, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind == _BYTE:
        return content[at], at + 1
    if kind in _INTEGERS:
        return _integer(content, at)
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BINARY:
        length, at = _varint(content, at)
        return None, at + length
    if kind == _STRUCT:
        return _struct(content, at, depth=depth + 1)
    raise _HeaderError(f"have a field of type {kind}")


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """A signed number: zigzag, then 7 bits a byte."""
    number, at = _varint(content, at)
    return number >> 1 ^ -(number & 1), at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        number |= (content[at] & 127) << shift
        at += 1
        if content[at - 1] < 128:
            return number, at
    raise _HeaderError("have a number of more than ten bytes")
