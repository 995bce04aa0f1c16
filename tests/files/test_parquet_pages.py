from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardmil import budget
from hardmil.files.parquet_pages import pages_problem

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
TABLE = pyarrow.table({"a": [b"x" * 93] * 50, "b": np.arange(50)})


def _problem(path: Path, *, columns: tuple[str, ...] = ("a", "b")) -> str | None:
    return pages_problem(path, columns=columns)


def _header(path: Path) -> int:
    """Where the first page of the first column begins."""
    column = parquet.ParquetFile(path).metadata.row_group(0).column(0)
    return min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset)


@pytest.mark.parametrize("options", [{}, {"data_page_version": "2.0"}, {"row_group_size": 7}])
def test_pages_as_they_are_written_are_read(tmp_path: Path, options: dict[str, Any]):
    path = tmp_path / "a.parquet"
    parquet.write_table(TABLE, path, **options)
    assert _problem(path) is None


def test_sizes_are_those_of_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.parquet"
    monkeypatch.setattr(budget, "FREE_BYTES", 1 << 20)
    big = pyarrow.table({"a": [b"x" * (2 << 20)], "b": [0]})
    parquet.write_table(big, path, compression="zstd", use_dictionary=False, write_statistics=False)
    assert "bytes in memory, from a file of" in str(_problem(path))
    assert _problem(path, columns=("b",)) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00", "has no number in field 2"),
        (b"\x1c" * 40, "has too many levels"),
        (b"\x1b\x00", "has a field of type 11"),
        (b"\x15" + b"\xff" * 12, "has a number of more than ten bytes"),
        (b"\x15\x00\x15\x01\x15\x00\x00", "has no number in field 2"),
        (b"\x15\x00\x15\x02\x15\x02\x2c\x15\x02\x15\x12\x00\x00", "names the encoding 9; expected PLAIN,"),
        (b"\x15\x00\x15\x02\x15\x02\x2c\x15\x02\x1c\x00\x00\x00", "has no number in field 2"),
    ],
)
def test_damaged_headers_of_pages(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "a.parquet"
    parquet.write_table(TABLE, path)
    whole, at = path.read_bytes(), _header(path)
    path.write_bytes(whole[:at] + content + whole[at + len(content) :])
    assert message in str(_problem(path))


def test_a_damaged_footer(tmp_path: Path):
    path = tmp_path / "a.parquet"
    parquet.write_table(TABLE, path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    path.write_bytes(whole[: -length - 8] + b"\x15" * length + whole[-8:])
    assert _problem(path) == "has a header that is cut"
