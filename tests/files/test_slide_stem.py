from pathlib import Path

import pytest

from hardmil.files.slide_stem import slide_stem


@pytest.mark.parametrize(
    ("name", "expected"),
    [("0017.svs", "0017"), ("a.b.ndpi", "a.b"), ("2.25.1001", "2.25.1001"), ("2.25.7.dcm", "2.25.7")],
)
def test_a_uid_keeps_its_dots(name: str, expected: str):
    assert slide_stem(Path("scans") / name) == expected


def test_a_folder_keeps_its_dots(tmp_path: Path):
    (tmp_path / "case.7b").mkdir()
    assert slide_stem(tmp_path / "case.7b") == "case.7b"
