from pathlib import Path

import pytest

from hardmil.files.written import MANIFEST, replacing


def run(folder: Path, **files: str) -> list[str]:
    """A command that writes these files, with _ for the slash; the names of the files that it kept."""
    with replacing(folder) as edited:
        for name, text in files.items():
            path = folder / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return [path.name for path in edited]


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != MANIFEST}


def test_files_of_the_last_run_are_removed_and_empty_folders_too(tmp_path: Path):
    assert run(tmp_path, table="1", geojson_a="1", maps_a="1") == []
    assert run(tmp_path, table="2", geojson_b="2") == []
    assert names(tmp_path) == {"table", "geojson", "geojson/b"}
    assert (tmp_path / "table").read_text() == "2"


def test_files_of_the_user_stay(tmp_path: Path):
    (tmp_path / "geojson").mkdir()
    (tmp_path / "geojson" / "mine").write_text("mine")
    run(tmp_path, geojson_a="1")
    (tmp_path / "notes").write_text("mine")
    run(tmp_path, geojson_b="2")
    assert names(tmp_path) == {"geojson", "geojson/mine", "geojson/b", "notes"}


def test_a_file_that_was_edited_is_kept_under_another_name(tmp_path: Path):
    for number in ("", "-2"):
        run(tmp_path, geojson_a="1")
        (tmp_path / "geojson" / "a").write_text(f"judged{number}")
        assert run(tmp_path, geojson_a="2") == [f"a-edited{number}"]
    assert (tmp_path / "geojson" / "a").read_text() == "2"
    assert (tmp_path / "geojson" / "a-edited").read_text() == "judged"
    run(tmp_path)
    assert names(tmp_path) == {"geojson", "geojson/a-edited", "geojson/a-edited-2"}


def test_what_a_run_that_fails_wrote_is_replaced_by_the_next(tmp_path: Path):
    run(tmp_path, a="1")

    def fail() -> None:
        with replacing(tmp_path):
            (tmp_path / "a").write_text("half")
            raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError, match="bug"):
        fail()
    assert run(tmp_path, a="2") == []
    assert names(tmp_path) == {"a"}


@pytest.mark.parametrize("content", ["", "[1]", '{"../outside": "x", "/etc/x": "x", "gone": "x"}'])
def test_a_list_that_was_changed_reaches_no_other_folder(tmp_path: Path, content: str):
    (tmp_path / "outside").write_text("1")
    folder = tmp_path / "folder"
    run(folder, a="1")
    (folder / MANIFEST).write_text(content)
    run(folder, b="1")
    assert (tmp_path / "outside").read_text() == "1"
    assert names(folder) == {"a", "b"}
