from pathlib import Path

import pytest

from hardmil.bags.split_files import read_splits
from hardmil.errors import TableError


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path):
    (tmp_path / "splits_0.csv").mkdir()
    with pytest.raises(TableError, match=r"splits_0\.csv: cannot be read \(Is a directory\)"):
        read_splits(tmp_path, ["a", "b"])


def test_a_link_to_itself_is_named(tmp_path: Path):
    (tmp_path / "splits").symlink_to(tmp_path / "splits")
    with pytest.raises(TableError, match=r"splits: no splits_0\.csv"):
        read_splits(tmp_path / "splits", ["a", "b"])
    (tmp_path / "splits_0.csv").symlink_to(tmp_path / "splits_0.csv")
    with pytest.raises(
        TableError, match=r"splits_0\.csv: cannot be read \(Too many levels of symbolic links\)"
    ):
        read_splits(tmp_path, ["a", "b"])


def test_a_number_of_5000_digits_is_not_a_fold(tmp_path: Path):
    (tmp_path / "a.csv").write_text(f"slide_id,fold_{'9' * 5000}\na,train\n")
    with pytest.raises(TableError, match=r"a\.csv: no columns slide_id and fold_0"):
        read_splits(tmp_path / "a.csv", ["a"])
