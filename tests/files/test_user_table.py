"""Tables as spreadsheets and other programs write them."""

from pathlib import Path

import pytest

from hardmil.errors import TableError
from hardmil.files.user_table import MISSING, UserTable, read_user_table

TEXT = "slide_id;note\n\u00fc1;two words\nb;\n"
ROWS = [(2, {"slide_id": "\u00fc1", "note": "two words"}), (3, {"slide_id": "b", "note": ""})]


def _read(folder: Path, content: bytes) -> UserTable:
    path = folder / "table.csv"
    path.write_bytes(content)
    return read_user_table(path, what="a table")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_of_spreadsheets(tmp_path: Path, encoding: str, newline: str):
    table = _read(tmp_path, TEXT.replace("\n", newline).encode(encoding))
    assert list(table.lines) == ROWS


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
def test_the_line_that_states_the_separator_is_not_the_header(tmp_path: Path, first: str):
    table = _read(tmp_path, f"{first}\n{TEXT}".encode())
    assert table.header == ("slide_id", "note")
    assert list(table.lines) == [(number + 1, cells) for number, cells in ROWS]


def test_one_name_is_one_text_whatever_program_wrote_it(tmp_path: Path):
    lines = ["slide_id,note", "u\u03081,x", "\u00fc1,x", "\ufeff\u00fc1\u200b,x", "\u00a0\u00fc1\u00a0,x"]
    table = _read(tmp_path, "\n".join(lines).encode())
    assert {cells["slide_id"] for _, cells in table.lines} == {"\u00fc1"}


@pytest.mark.parametrize("cell", [*sorted(MISSING), " NA "])
def test_a_missing_value_is_an_empty_cell(tmp_path: Path, cell: str):
    table = _read(tmp_path, f"slide_id,note\na,{cell}\n".encode())
    assert table.lines[0][1] == {"slide_id": "a", "note": ""}


@pytest.mark.parametrize("rest", ["", 'c,3\nd,"4\n'])
def test_a_quote_that_is_not_closed_takes_no_lines(tmp_path: Path, rest: str):
    with pytest.raises(TableError, match=r"table\.csv, line 3: not CSV .* begins with a double quote"):
        _read(tmp_path, f'slide_id,note\na,1\nb,"big\n{rest}'.encode())
