"""Tables as CSV files: one frozen dataclass for each table, its fields are the columns.

A field is a string, a whole number or a number. A field that is a dataclass itself takes the columns of its
own fields, all empty where it is None. A field made with `columns_by_name` takes a column for each of its
keys. Numbers have nine significant digits: enough to restore a float32, since the scores of confident models
differ in the seventh digit only. An empty cell is None or NaN. Text that a spreadsheet would run as a formula
has an apostrophe before it.
"""

import csv
import io
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hardmil.budget import check_file, shown
from hardmil.errors import TableError
from hardmil.files.atomic import write_atomically
from hardmil.files.formula import as_text_cell, plain_text

Cells = dict[str, str]
"""One line of a table as text, by column."""
Row = TypeVar("Row")
Number = TypeVar("Number", int, float)


def columns_by_name(prefix: str = "") -> Any:
    """A dataclass field `Mapping[str, float]`: a column `<prefix><key>` for each of its keys."""
    return field(default_factory=dict, metadata={"prefix": prefix})


def read_table(path: Path, row: type[Row]) -> list[Row]:
    """The rows of a table that hardmil wrote; none if there is no such file.

    A column that the file lacks takes the field's default; other columns are ignored.

    Raises:
        TableError: If a column without a default is missing, or a cell is not of its column's type.
    """
    return rows_of_cells(read_cells(path), row, path=path)


def rows_of_cells(lines: Iterable[Cells], row: type[Row], *, path: Path) -> list[Row]:
    """Lines as rows; `path` is named in errors.

    Raises:
        TableError: If a column without a default is missing, or a cell is not of its column's type.
    """
    reader = _reader(row)
    found: list[Row] = []
    for number, line in enumerate(lines, start=2):
        try:
            found.append(reader(line))
        except KeyError as error:
            raise TableError(
                f"{path}: no column {error.args[0]}; move the file away and run again"
            ) from error
        except ValueError as error:
            raise TableError(f"{path}, line {number}: {error}; move the file away and run again") from error
    return found


def write_table(
    path: Path, rows: Iterable[object], *, row: type, columns: Sequence[str] | None = None
) -> None:
    """Write a table; the file is complete or not there.

    Args:
        path: The file.
        rows: Instances of `row`.
        row: The dataclass of the table.
        columns: Columns in their order; those of `row` by default.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    write_cells(path, map(cells_of, rows), columns=columns_of(row) if columns is None else columns)


def table_text(rows: Iterable[object], *, row: type, columns: Sequence[str] | None = None) -> str:
    """A table as the text of its file, with these columns; all of its dataclass by default."""
    text = io.StringIO(newline="")
    _write_lines(text, map(cells_of, rows), columns=columns or columns_of(row))
    return text.getvalue()


def columns_of(row: type, *, names: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of a table; `names` are the keys of a field made with `columns_by_name`, nested too."""
    found: list[str] = []
    for one, kind in _typed_fields(row):
        if "prefix" in one.metadata:
            found += [one.metadata["prefix"] + name for name in names]
        elif is_dataclass(_required(kind)):
            found += columns_of(_required(kind), names=names)
        else:
            found.append(one.name)
    return tuple(found)


def cells_of(row: object) -> Cells:
    """A row as text, by column; of a dataclass that is None, nothing."""
    found: Cells = {}
    for one in _fields(type(row)):
        value = getattr(row, one.name)
        if "prefix" in one.metadata:
            found |= {one.metadata["prefix"] + key: _text(number) for key, number in value.items()}
        elif is_dataclass(value):
            found |= cells_of(value)
        else:
            found[one.name] = _text(value)
    return found


def read_cells(path: Path) -> list[Cells]:
    """The lines of a table as text; none if there is no such file.

    Raises:
        TableError: If it cannot be read, or a line has more or fewer cells than there are columns.
    """
    if not path.exists():
        return []
    found: list[Cells] = []
    try:
        check_file(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            columns = next(reader, [])
            for cells in filter(None, reader):
                if len(cells) != len(columns):
                    numbers = f"{len(cells)} cells, expected {len(columns)}"
                    raise TableError(
                        f"{path}, line {reader.line_num}: {numbers}; move the file away and run again"
                    )
                found.append(dict(zip(columns, cells, strict=True)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TableError(
            f"{path}: cannot be read as a table ({reason}); expected CSV in UTF-8, as hardmil wrote it; move "
            "the file away and run again"
        ) from error
    return found


def write_cells(path: Path, lines: Iterable[Mapping[str, str]], *, columns: Sequence[str]) -> None:
    """Write lines of text; the file is complete or not there.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    with write_atomically(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        _write_lines(file, lines, columns=columns)


def _write_lines(file: io.TextIOBase, lines: Iterable[Mapping[str, str]], *, columns: Sequence[str]) -> None:
    writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, str):
        return as_text_cell(value)
    return "" if value is None else str(value)


@cache
def _fields(row: type) -> tuple[Field[Any], ...]:
    return fields(row)


@cache
def _typed_fields(row: type) -> tuple[tuple[Field[Any], Any], ...]:
    kinds = get_type_hints(row)
    return tuple((one, kinds[one.name]) for one in fields(row))


@cache
def _reader(row: type[Row]) -> Callable[[Cells], Row]:
    """A function that turns a line into a row."""
    plain = frozenset(columns_of(row))
    readers = {one.name: _field_reader(one, kind, plain=plain) for one, kind in _typed_fields(row)}
    return lambda line: row(**{name: read(line) for name, read in readers.items()})


def _field_reader(one: Field[Any], kind: Any, *, plain: frozenset[str]) -> Callable[[Cells], object]:
    """A function that reads the value of a field in a line; `plain` are the columns with fixed names."""
    if "prefix" in one.metadata:
        return partial(_numbers_by_name, prefix=one.metadata["prefix"], plain=plain)
    required = _required(kind)
    is_optional = required is not kind
    if is_dataclass(required):
        inner, names = _reader(required), columns_of(required)
        return lambda line: inner(line) if not is_optional or any(map(line.get, names)) else None
    return partial(_value, name=one.name, default=one.default, kind=required, is_optional=is_optional)


def _value(line: Cells, *, name: str, default: object, kind: type, is_optional: bool) -> object:
    text = line.get(name)
    if text is None:
        if default is MISSING:
            raise KeyError(name)
        return default
    if text == "" and is_optional:
        return None
    if text == "" and kind is float:
        return math.nan
    return _number(text, name=name, kind=kind) if kind in (int, float) else plain_text(text)


def _numbers_by_name(line: Cells, *, prefix: str, plain: frozenset[str]) -> dict[str, float]:
    return {
        name.removeprefix(prefix): _number(text or "nan", name=name, kind=float)
        for name, text in line.items()
        if name.startswith(prefix) and name not in plain
    }


def _number(text: str, *, name: str, kind: Callable[[str], Number]) -> Number:
    try:
        return kind(text)
    except (ValueError, OverflowError) as error:
        expected = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} is {shown(text)}, expected {expected}") from error


def _required(kind: Any) -> type:
    """`X` of `X | None`."""
    if get_origin(kind) in (types.UnionType, Union):
        return next(one for one in get_args(kind) if one is not type(None))
    return kind
