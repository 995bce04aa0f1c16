from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardmil.files.csv_table import read_table, write_table
from hardmil.files.formula import as_text_cell, plain_text
from hardmil.files.user_table import read_user_table


@dataclass(frozen=True)
class _Row:
    slide_id: str
    score: float


@given(st.text(alphabet="'=+-@\t\r a1.", max_size=8))
def test_the_text_comes_back(text: str):
    assert plain_text(as_text_cell(text)) == text
    assert as_text_cell(text)[:1] not in ("=", "@") or len(text) == 1


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("'=x", "''=x"),
        ("-0.5", "-0.5"),
        ("+1e-3", "+1e-3"),
        ("-", "-"),
        ("'a'", "'a'"),
        ("a=b", "a=b"),
    ],
)
def test_only_formulas_get_an_apostrophe(text: str, cell: str):
    assert as_text_cell(text) == cell


def test_tables_are_safe_in_a_spreadsheet_and_read_back_equal(tmp_path: Path):
    rows = [_Row('=HYPERLINK("x")', -0.5), _Row("@a", 1.0), _Row("plain", -1e-9)]
    path = tmp_path / "a.csv"
    write_table(path, rows, row=_Row)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1:] == ['"\'=HYPERLINK(""x"")",-0.5', "'@a,1", "plain,-1e-09"]
    assert read_table(path, _Row) == rows
    cells = [line["slide_id"] for _, line in read_user_table(path, what="a table").lines]
    assert cells == [row.slide_id for row in rows]
