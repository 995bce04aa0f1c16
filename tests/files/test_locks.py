import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.support.waiting import wait_until

from hardmil.errors import BusyError, StoreError
from hardmil.files import locks
from hardmil.files.locks import holders, locked
from hardmil.files.writer import this_process

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
    with locked(path):
        with (
            pytest.raises(BusyError, match=rf"slide 007.h5: another run .*\(process {os.getpid()}"),
            locked(path),
        ):
            pass
        with locked(path.with_name("slide 008.h5")):
            pass
        assert _lock(path).exists()
    assert list(path.parent.iterdir()) == []
    with locked(path):
        pass


def test_only_one_of_many_threads_gets_the_lock(tmp_path: Path):
    path = tmp_path / "a.h5"
    refused: list[int] = []
    begin = threading.Barrier(8)

    def one(number: int) -> bool:
        begin.wait()
        try:
            with locked(path):
                wait_until(lambda: len(refused) == 7)
                return True
        except BusyError:
            refused.append(number)
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(8))) == 1


def test_an_error_in_the_block_releases_the_lock(tmp_path: Path):
    path = tmp_path / "a.h5"
    with pytest.raises(ZeroDivisionError, match="bug"), locked(path):
        raise ZeroDivisionError("bug")
    assert not _lock(path).exists()


def test_lock_of_a_killed_run_on_this_machine_is_taken_over_at_once(tmp_path: Path, dead_pid: int):
    path = tmp_path / "a.h5"
    _left_by(path, host=LOCAL, pid=dead_pid, age_s=0)
    with locked(path):
        assert json.loads(_lock(path).read_text())["pid"] == os.getpid()
    assert not _lock(path).exists()


@pytest.mark.parametrize(("age_s", "is_busy"), [(100, True), (1000, False)])
def test_lock_of_another_machine_is_taken_over_when_it_is_old(
    tmp_path: Path, dead_pid: int, age_s: float, is_busy: bool
):
    path = tmp_path / "a.h5"
    _left_by(path, host="node-17", pid=dead_pid, age_s=age_s)
    if is_busy:
        with pytest.raises(BusyError, match=rf"\(process {dead_pid} on node-17\); wait for it"), locked(path):
            pass
    else:
        with locked(path):
            assert json.loads(_lock(path).read_text())["host"] == LOCAL


@pytest.mark.parametrize("age_s", [1000, -1000])
def test_a_lock_from_the_future_is_as_old_as_one_from_the_past(tmp_path: Path, age_s: float):
    path = tmp_path / "a.h5"
    _left_by(path, host="node-17", pid=1, age_s=age_s)
    with locked(path):
        assert json.loads(_lock(path).read_text())["host"] == LOCAL


def test_a_lock_of_an_earlier_process_with_our_number_is_taken_over(tmp_path: Path):
    path = tmp_path / "a.h5"
    for changed in ({"start": "1"}, {"boot": "another"}):
        holder = asdict(this_process())
        if not all(holder[name] for name in changed):
            pytest.skip("the system does not say when a process started")
        _lock(path).write_text(json.dumps({**holder, **changed, "id": "x"}))
        with locked(path):
            assert json.loads(_lock(path).read_text())["id"] != "x"


def test_a_lock_is_never_seen_without_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, seen = tmp_path / "a.h5", []
    plain = os.link

    def linked(source: Path, target: Path) -> None:
        plain(source, target)
        seen.append(json.loads(_lock(path).read_text())["pid"])

    monkeypatch.setattr(os, "link", linked)
    with locked(path):
        assert seen == [os.getpid()]


def test_a_full_disk_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match="disk is full"), locked(tmp_path / "a.h5"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_locks_on_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unknown)
    path = tmp_path / "a.h5"
    with locked(path):
        assert json.loads(_lock(path).read_text())["pid"] == os.getpid()
        with pytest.raises(BusyError, match="another run"), locked(path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_holders_are_the_runs_with_a_lock(tmp_path: Path):
    assert holders(tmp_path) == []
    _left_by(tmp_path / "b.h5", host="node-17", pid=3, age_s=0)
    with locked(tmp_path / "a.h5"), locked(tmp_path / "c.h5"):
        assert set(holders(tmp_path)) == {"process 3 on node-17", f"process {os.getpid()} on {LOCAL}"}


@pytest.mark.parametrize(("age_s", "is_busy"), [(0, True), (15, False)])
def test_empty_lock_is_judged_by_its_age(tmp_path: Path, age_s: float, is_busy: bool):
    path = tmp_path / "a.h5"
    _lock(path).write_text("")
    os.utime(_lock(path), (time.time() - age_s,) * 2)
    if is_busy:
        with pytest.raises(BusyError, match=r"see .*\.a\.h5\.lock"), locked(path):
            pass
    else:
        with locked(path):
            pass


def test_lock_is_touched_while_the_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.02)
    path = tmp_path / "a.h5"
    with locked(path):
        os.utime(_lock(path), (0, 0))
        wait_until(lambda: _lock(path).stat().st_mtime > 0)
        assert _lock(path).stat().st_mtime > 0


def test_lock_that_another_run_took_over_is_not_removed(tmp_path: Path):
    path = tmp_path / "a.h5"
    with locked(path):
        _left_by(path, host="node-17", pid=1, age_s=0)
    assert json.loads(_lock(path).read_text())["host"] == "node-17"


def test_folder_that_cannot_be_created_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"), locked(tmp_path / "file" / "a.h5"):
        pass
