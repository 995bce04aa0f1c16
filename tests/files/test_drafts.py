import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hardmil.files import drafts
from hardmil.files.atomic import visible, write_atomically
from hardmil.files.drafts import draft_path, remove_drafts
from hardmil.files.writer import this_process

KILLED = """
import os, signal, sys
from pathlib import Path
from hardmil.files.atomic import write_atomically
with write_atomically(Path(sys.argv[1])) as draft:
    draft.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by(path: Path, monkeypatch: pytest.MonkeyPatch, **other: object) -> Path:
    """A draft of another process."""
    with monkeypatch.context() as patch:
        patch.setattr(drafts, "this_process", lambda: replace(this_process(), **other))
        draft = draft_path(path)
    draft.write_text("half")
    return draft


def test_the_draft_of_a_killed_process_is_removed(tmp_path: Path):
    path = tmp_path / "deep" / "bag.h5"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(path.parent.iterdir())) == 1
    assert remove_drafts(tmp_path) == 1
    assert list(path.parent.iterdir()) == []


def test_drafts_in_use_and_other_hidden_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in (".git", ".DS_Store", ".a.h5.lock", ".abc.12345678.h5"):
        (tmp_path / name).write_text("")
    there = left_by(tmp_path / "b.h5", monkeypatch, host="node-17")
    with write_atomically(tmp_path / "a.h5") as draft:
        draft.write_text("half")
        assert remove_drafts(tmp_path) == 0
        assert draft.exists()
    assert there.exists()
    assert visible(tmp_path.iterdir()) == [tmp_path / "a.h5"]


@pytest.mark.parametrize(("age_s", "is_left"), [(3600, False), (7 * 24 * 3600, True)])
def test_a_draft_of_another_machine_is_removed_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: float, is_left: bool
):
    draft = left_by(tmp_path / "b.h5", monkeypatch, host="node-17")
    os.utime(draft, (time.time() - age_s,) * 2)
    assert remove_drafts(tmp_path) == is_left
    assert draft.exists() != is_left


def test_a_draft_from_before_the_machine_started_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    left_by(tmp_path / "b.h5", monkeypatch, boot="another")
    assert remove_drafts(tmp_path) == bool(this_process().boot)


def test_names_of_drafts():
    long = Path("folder") / ("x" * 240 + ".h5")
    draft = draft_path(long)
    assert (draft.parent, draft.suffix) == (long.parent, ".h5")
    assert len(draft.name) < 160
    assert draft != draft_path(long)
    assert re.fullmatch(
        rf"\.model\.[0-9a-f]{{12}}-{os.getpid()}-\d*-[0-9a-f]{{8}}", draft_path(Path("model")).name
    )


def test_a_folder_that_is_not_there_has_no_drafts(tmp_path: Path):
    assert remove_drafts(tmp_path / "none") == 0
