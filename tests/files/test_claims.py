import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.waiting import wait_until

from hardmil.errors import BusyError, StoreError
from hardmil.files import claims
from hardmil.files.claims import claim

LOCAL = socket.gethostname()


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _left_by(path: Path, *, host: str, pid: int, age_s: float) -> None:
    """Write the lock of a run that did not remove it."""
    path.parent.mkdir(exist_ok=True)
    _lock(path).write_text(json.dumps({"host": host, "pid": pid, "id": "x"}))
    then = time.time() - age_s
    os.utime(_lock(path), (then, then))


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    return int(process.stdout)


def test_one_run_at_a_time(tmp_path: Path):
    path = tmp_path / "new" / "slide 007.h5"
    with claim(path):
        with (
            pytest.raises(BusyError, match=rf"slide 007.h5: another run .*\(process {os.getpid()}"),
            claim(path),
        ):
            pass
        with claim(path.with_name("slide 008.h5")):
            pass
        assert _lock(path).exists()
    assert list(path.parent.iterdir()) == []
    with claim(path):
        pass


def test_only_one_of_many_threads_gets_the_claim(tmp_path: Path):
    path = tmp_path / "a.h5"
    refused: list[int] = []
    begin = threading.Barrier(8)

    def one(number: int) -> bool:
        begin.wait()
        try:
            with claim(path):
                wait_until(lambda: len(refused) == 7)
                return True
        except BusyError:
            refused.append(number)
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(8))) == 1


def test_an_error_in_the_block_releases_the_claim(tmp_path: Path):
    path = tmp_path / "a.h5"
    with pytest.raises(ZeroDivisionError, match="bug"), claim(path):
        raise ZeroDivisionError("bug")
    assert not _lock(path).exists()


def test_lock_of_a_killed_run_on_this_machine_is_taken_over_at_once(tmp_path: Path, dead_pid: int):
    path = tmp_path / "a.h5"
    _left_by(path, host=LOCAL, pid=dead_pid, age_s=0)
    with claim(path):
        assert json.loads(_lock(path).read_text())["pid"] == os.getpid()
    assert not _lock(path).exists()


@pytest.mark.parametrize(("age_s", "is_busy"), [(100, True), (1000, False)])
def test_lock_of_another_machine_is_taken_over_when_it_is_old(
    tmp_path: Path, dead_pid: int, age_s: float, is_busy: bool
):
    path = tmp_path / "a.h5"
    _left_by(path, host="node-17", pid=dead_pid, age_s=age_s)
    if is_busy:
        with pytest.raises(BusyError, match=rf"\(process {dead_pid} on node-17\); wait for it"), claim(path):
            pass
    else:
        with claim(path):
            assert json.loads(_lock(path).read_text())["host"] == LOCAL


@pytest.mark.parametrize(("age_s", "is_busy"), [(0, True), (1000, False)])
def test_empty_lock_is_judged_by_its_age(tmp_path: Path, age_s: float, is_busy: bool):
    path = tmp_path / "a.h5"
    _lock(path).write_text("")
    os.utime(_lock(path), (time.time() - age_s,) * 2)
    if is_busy:
        with pytest.raises(BusyError, match=r"see .*\.a\.h5\.lock"), claim(path):
            pass
    else:
        with claim(path):
            pass


def test_lock_is_touched_while_the_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.02)
    path = tmp_path / "a.h5"
    with claim(path):
        os.utime(_lock(path), (0, 0))
        wait_until(lambda: _lock(path).stat().st_mtime > 0)
        assert _lock(path).stat().st_mtime > 0


def test_lock_that_another_run_took_over_is_not_removed(tmp_path: Path):
    path = tmp_path / "a.h5"
    with claim(path):
        _left_by(path, host="node-17", pid=1, age_s=0)
    assert json.loads(_lock(path).read_text())["host"] == "node-17"


def test_folder_that_cannot_be_created_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"), claim(tmp_path / "file" / "a.h5"):
        pass
