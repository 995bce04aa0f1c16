import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hardmil.errors import TableError
from hardmil.files.csv_table import (
    cells_of,
    columns_by_name,
    columns_of,
    read_cells,
    read_table,
    rows_of_cells,
    write_cells,
    write_table,
)


@dataclass(frozen=True)
class Place:
    x: int
    y: int


@dataclass(frozen=True)
class Pair:
    place: Place | None
    name: str


@dataclass(frozen=True)
class Row:
    name: str
    place: Place
    n: int
    size: float
    n_known: int | None = None
    size_known: float | None = None
    word: str = "none"
    count: int = 7
    share: float = math.nan
    scores: Mapping[str, float] = columns_by_name("score_")


@dataclass(frozen=True)
class Named:
    key: str
    values: Mapping[str, float] = columns_by_name()


@dataclass(frozen=True)
class Outer:
    inner: Row | None
    last: str = ""


ROW = Row("a", Place(1, -2), 5, 0.25, 6, 0.5, "word", 8, 0.125, {"low": 0.75, "high": 1.0})
COLUMNS = (
    *("name", "x", "y", "n", "size", "n_known", "size_known", "word", "count", "share"),
    *("score_low", "score_high"),
)
# csv of Python 3.11 does not quote a carriage return alone.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))
float32 = st.floats(width=32, allow_nan=False)


def _back(row: Any, kind: type) -> Any:
    """The row after a way through text, without a file."""
    (found,) = rows_of_cells([cells_of(row)], kind, path=Path("t.csv"))
    return found


def test_every_kind_of_field_comes_back(tmp_path: Path):
    one = Outer(ROW, "end")
    path = tmp_path / "folder" / "t.csv"
    write_table(path, [one], row=Outer, columns=columns_of(Outer, names=("low", "high")))
    assert read_table(path, Outer) == [one]
    text = path.read_text(encoding="utf-8").splitlines()
    assert text[0] == "name,x,y,n,size,n_known,size_known,word,count,share,score_low,score_high,last"
    assert text[1] == "a,1,-2,5,0.25,6,0.5,word,8,0.125,0.75,1,end"


def test_a_table_that_is_not_there_has_no_rows(tmp_path: Path):
    assert read_table(tmp_path / "t.csv", Place) == []
    assert read_cells(tmp_path / "t.csv") == []


def test_a_table_without_rows_has_its_columns(tmp_path: Path):
    write_table(tmp_path / "t.csv", [], row=Place)
    assert (tmp_path / "t.csv").read_text() == "x,y\n"
    assert read_table(tmp_path / "t.csv", Place) == []


def test_the_columns_of_nested_fields_stand_in_their_place():
    assert columns_of(Place) == ("x", "y")
    assert columns_of(Pair) == ("x", "y", "name")
    assert columns_of(Named, names=("b", "a")) == ("key", "b", "a")
    inner = columns_of(Row, names=("low",))
    assert inner[-1] == "score_low"
    assert columns_of(Outer, names=("low",)) == (*inner, "last")
    assert "score_low" not in columns_of(Outer)


def test_a_nested_field_that_is_none_has_empty_cells(tmp_path: Path):
    rows = [Pair(None, "none"), Pair(Place(0, 0), "origin")]
    write_table(tmp_path / "t.csv", rows, row=Pair)
    assert read_cells(tmp_path / "t.csv")[0] == {"x": "", "y": "", "name": "none"}
    assert read_table(tmp_path / "t.csv", Pair) == rows


def test_a_nested_field_of_which_a_part_is_missing_is_named():
    with pytest.raises(TableError, match=r"t\.csv, line 2: y is ''"):
        rows_of_cells([{"x": "1", "y": "", "name": ""}], Pair, path=Path("t.csv"))


def test_numbers_by_name_with_a_prefix_take_only_their_columns():
    line = cells_of(ROW) | {"other": "not a number"}
    (found,) = rows_of_cells([line], Row, path=Path("t.csv"))
    assert found == ROW


def test_numbers_by_name_without_a_prefix_take_all_other_columns(tmp_path: Path):
    one = Named("a", {"auc": 0.5, "auc_se": math.inf})
    write_table(tmp_path / "t.csv", [one], row=Named, columns=columns_of(Named, names=("auc", "auc_se")))
    assert read_table(tmp_path / "t.csv", Named) == [one]
    (found,) = rows_of_cells([{"key": "a", "auc": ""}], Named, path=Path("t.csv"))
    assert math.isnan(found.values["auc"])


def test_a_name_that_one_row_lacks_is_an_empty_cell(tmp_path: Path):
    rows = [Named("a", {"p": 0.5}), Named("b", {"p": 0.25, "q": 0.75})]
    write_table(tmp_path / "t.csv", rows, row=Named, columns=("key", "p", "q"))
    first, second = read_table(tmp_path / "t.csv", Named)
    assert (first.values["p"], second.values) == (0.5, {"p": 0.25, "q": 0.75})
    assert math.isnan(first.values["q"])


def test_columns_choose_and_order_what_is_written(tmp_path: Path):
    write_table(tmp_path / "t.csv", [Pair(Place(1, 2), "a")], row=Pair, columns=("name", "y"))
    assert (tmp_path / "t.csv").read_text() == "name,y\na,2\n"


def test_a_missing_column_takes_the_default():
    (found,) = rows_of_cells(
        [{"name": "a", "x": "1", "y": "2", "n": "3", "size": "0.5"}], Row, path=Path("t.csv")
    )
    assert (found.n_known, found.size_known, found.word, found.count) == (None, None, "none", 7)
    assert math.isnan(found.share)
    assert found.scores == {}


@pytest.mark.parametrize("missing", ["name", "x", "n", "size"])
def test_a_missing_column_without_a_default_is_named(missing: str):
    line = {name: "1" for name in COLUMNS if name != missing}
    with pytest.raises(TableError, match=rf"folder/t\.csv: no column {missing};"):
        rows_of_cells([line], Row, path=Path("folder/t.csv"))


def test_further_columns_are_ignored():
    assert rows_of_cells([{"x": "1", "y": "2", "z": "three"}], Place, path=Path("t.csv")) == [Place(1, 2)]


def test_an_empty_cell_is_none_or_nan():
    line = dict.fromkeys(COLUMNS, "1") | dict.fromkeys(
        ("name", "size", "n_known", "size_known", "word", "share", "score_low"), ""
    )
    (found,) = rows_of_cells([line], Row, path=Path("t.csv"))
    assert (found.name, found.word, found.n_known, found.size_known) == ("", "", None, None)
    assert math.isnan(found.size)
    assert math.isnan(found.share)
    assert math.isnan(found.scores["low"])
    assert found.scores["high"] == 1


def test_none_is_written_as_an_empty_cell_and_nan_as_nan():
    cells = cells_of(replace(ROW, n_known=None, size_known=None, share=math.nan))
    assert (cells["n_known"], cells["size_known"], cells["share"]) == ("", "", "nan")
    assert math.isnan(_back(replace(ROW, share=math.nan), Row).share)


@pytest.mark.parametrize(
    ("column", "text", "wanted"),
    [
        ("n", "", "a whole number"),
        ("n", "1.5", "a whole number"),
        ("n", "nan", "a whole number"),
        ("n_known", "two", "a whole number"),
        ("size", "0,5", "a number"),
        ("share", "x", "a number"),
        ("x", "left", "a whole number"),
    ],
)
def test_a_bad_cell_is_named_by_file_line_and_column(column: str, text: str, wanted: str, tmp_path: Path):
    good = dict.fromkeys(COLUMNS, "1")
    write_cells(tmp_path / "t.csv", [good, good, good | {column: text}], columns=COLUMNS)
    with pytest.raises(TableError, match=rf"t\.csv, line 4: {column} is '{text}', expected {wanted}"):
        read_table(tmp_path / "t.csv", Row)


@pytest.mark.parametrize("line", ["p,1", "p,1,2,3,4"])
def test_a_line_with_more_or_fewer_cells_than_columns_is_named(line: str, tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text(f"key,a,b\n\np,1,2\n{line}\n")
    number = line.count(",") + 1
    with pytest.raises(TableError, match=rf"table.csv, line 4: {number} cells, expected 3"):
        read_table(path, Named)


def test_a_bad_number_by_name_is_named_by_its_column():
    with pytest.raises(TableError, match=r"t\.csv, line 2: score_low is 'x', expected a number"):
        rows_of_cells([dict.fromkeys(COLUMNS, "1") | {"score_low": "x"}], Row, path=Path("t.csv"))


@given(float32)
@example(0.99999988)
@example(1e-30)
@example(1 / 3)
def test_nine_digits_keep_a_float32(value: float):
    found = _back(Named("a", {"value": value}), Named).values["value"]
    assert np.float32(found) == np.float32(value)


@given(texts, st.integers(), st.none() | st.integers(), st.none() | float32)
def test_rows_come_back_as_they_were(name: str, n: int, known: int | None, size: float | None):
    row = replace(ROW, name=name, n=n, n_known=known, size_known=size)
    found = _back(row, Row)
    assert replace(found, size_known=None) == replace(row, size_known=None)
    assert (found.size_known is None) == (size is None)
    if size is not None:
        assert np.float32(found.size_known) == np.float32(size)


@given(st.lists(st.tuples(texts, texts), max_size=4))
@example([("0012", 'a "b", c'), ("ü;ß", "two\nlines"), ("\n", " ")])
def test_text_comes_back_from_a_file(pairs: list[tuple[str, str]]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        lines = [{"a": one, "b": other} for one, other in pairs]
        write_cells(path, lines, columns=("a", "b"))
        assert read_cells(path) == lines


@pytest.mark.parametrize(
    "content", ["a,b\n1,2\n".encode("utf-16"), b"\xff\xfe,\x00\n", b'a\n"' + b"x" * 200_000]
)
def test_a_table_that_a_spreadsheet_saved_otherwise_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "results.csv"
    path.write_bytes(content)
    with pytest.raises(TableError, match=r"results\.csv: cannot be read as a table .*expected CSV in UTF-8"):
        read_cells(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(TableError, match=r"cannot be read as a table .*Is a directory"):
        read_cells(path)
