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
    return pages_problem(path, parquet.ParquetFile(path).metadata, columns=columns)


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
        (b"\x00", "give no size"),
        (b"\x1c" * 40, "have a header of too many levels"),
        (b"\x19\x00", "have a field of type 9"),
        (b"\x15" + b"\xff" * 12, "have a number of more than ten bytes"),
        (b"\x15\x00\x15\x01\x15\x00\x00", "give no size"),
    ],
)
def test_damaged_headers(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "a.parquet"
    parquet.write_table(TABLE, path)
    whole, at = path.read_bytes(), _header(path)
    metadata = parquet.ParquetFile(path).metadata
    path.write_bytes(whole[:at] + content + whole[at + len(content) :])
    assert message in str(pages_problem(path, metadata, columns=("a", "b")))


def test_a_header_at_the_end_of_a_cut_file(tmp_path: Path):
    path = tmp_path / "a.parquet"
    parquet.write_table(TABLE, path)
    metadata, at = parquet.ParquetFile(path).metadata, _header(path)
    path.write_bytes(path.read_bytes()[: at + 2])
    assert pages_problem(path, metadata, columns=("a", "b")) == "its pages are cut"
