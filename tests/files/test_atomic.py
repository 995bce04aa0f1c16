import errno
import json
import os
import sys
import time
from pathlib import Path

import pytest

from hardmil.errors import SlideError, StoreError, TableError
from hardmil.files.atomic import is_disk_full, read_json, visible, write_atomically, write_json
from hardmil.files.locks import locked
from hardmil.files.run_record import run_record, write_run_record


def _write_half(target: Path, error: Exception) -> None:
    with write_atomically(target) as draft:
        draft.write_text("half")
        raise error


def test_name_appears_only_when_the_block_ends(tmp_path: Path):
    target = tmp_path / "deep" / "bag.h5"
    with write_atomically(target) as draft:
        draft.write_bytes(b"whole")
        assert not target.exists()
        assert (draft.parent, draft.suffix) == (target.parent, ".h5")
    assert target.read_bytes() == b"whole"
    assert os.listdir(target.parent) == ["bag.h5"]


def test_an_error_leaves_the_old_file_and_no_draft(tmp_path: Path):
    target = tmp_path / "bag.h5"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        _write_half(target, RuntimeError("half way"))
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["bag.h5"]


def test_a_file_has_the_mode_of_its_neighbours(tmp_path: Path):
    (tmp_path / "usual").touch()
    with write_atomically(tmp_path / "secret") as draft:
        draft.touch(mode=0o600)
    assert (tmp_path / "secret").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_two_writers_of_one_name_do_not_share_a_draft(tmp_path: Path):
    target = tmp_path / "a.csv"
    with write_atomically(target) as first, write_atomically(target) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert target.read_text() == "1"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Can't write data (errno = 28, error message"),
    ],
)
def test_full_disk_names_the_file_and_the_remedy(tmp_path: Path, error: OSError):
    target = tmp_path / "bag.h5"
    with pytest.raises(StoreError, match=r"bag\.h5: the disk is full.*free some space"):
        _write_half(target, error)
    assert os.listdir(tmp_path) == []
    assert is_disk_full(error)


def test_a_really_full_device_is_recognised():
    with pytest.raises(OSError, match="No space left") as caught, open("/dev/full", "w") as file:
        file.write("x" * 100_000)
    assert is_disk_full(caught.value)


def test_other_errors_of_the_block_pass_unchanged(tmp_path: Path):
    for error in (FileNotFoundError(errno.ENOENT, "not there"), SlideError("slide s1: not there")):
        with pytest.raises(type(error), match="not there"), write_atomically(tmp_path / "a.h5"):
            raise error
    assert not is_disk_full(ValueError("errno = 28,"))


def test_folder_that_cannot_be_created(tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    with (
        pytest.raises(StoreError, match=r"a\.json: cannot be written .*choose another folder"),
        write_atomically(tmp_path / "taken" / "a.json"),
    ):
        pass


def test_target_that_is_a_folder(tmp_path: Path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        write_json(tmp_path / "a.json", 1)
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="writable folder"):
        write_json(tmp_path / "a.json", 1)


def test_json_round_trip(tmp_path: Path):
    value = {"µm": 0.5, "ids": ["007", "Fäll"], "none": None}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "µm" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_errors(tmp_path: Path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(TableError, match=r"a\.json: not JSON .*move it away and run again"):
        read_json(tmp_path / "a.json")
    with pytest.raises(TableError, match=r"b\.json: no such file"):
        read_json(tmp_path / "b.json")


def test_run_record_holds_what_a_rerun_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    started = time.time() - 5
    path = write_run_record(tmp_path, "hardmil train", config={"seed": 3}, seed=3, started=started)
    record = json.loads(path.read_text())
    assert path.name == "run.json"
    assert (record["command"], record["config"], record["seed"]) == ("hardmil train", {"seed": 3}, 3)
    assert record["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["versions"]["numpy"]
    assert record["seconds"] >= 5
    assert record["git"] is None


def test_run_record_names_the_commit_and_whether_it_is_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import subprocess

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout

    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "first")
    commit = git("rev-parse", "HEAD").strip()
    assert run_record("x", config={}, seed=None, started=0.0)["git"] == {"commit": commit, "dirty": False}
    (tmp_path / "new.txt").write_text("a")
    assert run_record("x", config={}, seed=None, started=0.0)["git"] == {"commit": commit, "dirty": True}


def test_run_record_does_not_import_torch():
    import subprocess

    code = (
        "import sys; from hardmil.files.run_record import run_record; "
        "r = run_record('x', config={}, seed=None, started=0.0); "
        "assert r['versions']['torch']; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_drafts_and_locks_are_not_among_the_visible_files(tmp_path: Path):
    (tmp_path / "b.h5").touch()
    (tmp_path / "a.h5").touch()
    with write_atomically(tmp_path / "c.h5") as draft, locked(tmp_path / "c.h5"):
        draft.touch()
        assert draft in tmp_path.glob("*.h5"), "Path.glob lists hidden files"
        assert visible(tmp_path.glob("*.h5")) == [tmp_path / "a.h5", tmp_path / "b.h5"]
        assert visible(tmp_path.iterdir()) == [tmp_path / "a.h5", tmp_path / "b.h5"]


@pytest.mark.parametrize("code", [errno.EIO, errno.EFBIG, errno.ESTALE])
def test_a_disk_that_fails_is_named(tmp_path: Path, code: int):
    with (
        pytest.raises(StoreError, match=rf"a\.txt: cannot be written \({os.strerror(code)}\)"),
        write_atomically(tmp_path / "a.txt"),
    ):
        raise OSError(code, os.strerror(code))


def test_json_that_cannot_be_read_is_named(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text("[" * 100_000)
    with pytest.raises(TableError, match=r"a\.json: not JSON"):
        read_json(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(TableError, match=r"a\.json: cannot be read \(Is a directory\)"):
        read_json(path)
