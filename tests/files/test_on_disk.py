from pathlib import Path

from hardmil.files.on_disk import on_disk

COMPOSED, DECOMPOSED = "M\u00fcller.svs", "Mu\u0308ller.svs"


def test_a_file_is_found_whether_its_letters_are_composed_or_not(tmp_path: Path):
    assert on_disk(tmp_path / COMPOSED) == tmp_path / COMPOSED
    (tmp_path / DECOMPOSED).touch()
    assert on_disk(tmp_path / COMPOSED).samefile(tmp_path / DECOMPOSED)
    (tmp_path / COMPOSED).touch()
    assert on_disk(tmp_path / COMPOSED) == tmp_path / COMPOSED


def test_a_relative_path_from_windows_is_found(tmp_path: Path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.svs").touch()
    assert on_disk(tmp_path / "scans\\a.svs").samefile(tmp_path / "scans" / "a.svs")
    assert on_disk(tmp_path / "scans\\b.svs") == tmp_path / "scans\\b.svs"
