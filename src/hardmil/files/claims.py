"""One run at a time on one file, where several runs share a folder: lock files, created exclusively.

Exclusive creation holds on network disks, where the locks of fcntl often do not. Work is written atomically
all the same, so that two runs on one file, should it ever come to that, waste time and harm nothing.
"""

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hardmil.errors import BusyError
from hardmil.files.atomic import store_errors

BEAT_S = 30.0
"""How often a run says that it still works on a file."""
STALE_S = 300.0
"""After this silence a run on another machine is taken for dead; one on this machine at once."""


@contextmanager
def claim(path: Path) -> Iterator[None]:
    """For as long as the block runs, no other run works on the file at `path`, which need not exist.

    Beside it lies `.<name>.lock`, touched every half minute; one that a killed run left is taken over.

    Raises:
        BusyError: If another run works on it.
        StoreError: If the disk is full, or the folder may not be written.
    """
    lock, mine = path.with_name(f".{path.name}.lock"), _signature()
    if not _create(lock, mine, of=path):
        if not _is_abandoned(lock):
            raise BusyError(f"{path}: another run works on it ({_holder(lock)}); wait for it, or end it")
        with store_errors(path, every=True):
            lock.unlink(missing_ok=True)
        if not _create(lock, mine, of=path):
            raise BusyError(f"{path}: another run has just begun it ({_holder(lock)}); wait for it")
    ended = threading.Event()
    beat = threading.Thread(target=_keep_touching, args=(lock, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        # Not ours any more, if this run slept so long that another took it for dead.
        with suppress(OSError):
            if lock.read_text(encoding="utf-8") == mine:
                lock.unlink()


def _signature() -> str:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex})


def _create(lock: Path, content: str, *, of: Path) -> bool:
    """Whether the lock file of a path is ours now; False if it was there."""
    with store_errors(of, every=True):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
    return True


def _is_abandoned(lock: Path) -> bool:
    """Whether the run that holds a lock is gone: its process here, or its sign of life elsewhere."""
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        if holder["host"] == socket.gethostname() and not _lives(int(holder["pid"])):
            return True
        return _now_there(lock.parent) - lock.stat().st_mtime > STALE_S
    except FileNotFoundError:
        return True
    except (OSError, ValueError, LookupError, TypeError):
        # Just created and not yet written, or by something else: its age alone tells.
        with suppress(OSError):
            return _now_there(lock.parent) - lock.stat().st_mtime > STALE_S
        return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now_there(folder: Path) -> float:
    """The time by the clock of the disk's machine, which may not be ours."""
    probe = folder / f".{uuid.uuid4().hex[:8]}.now"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _holder(lock: Path) -> str:
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, LookupError, TypeError):
        return f"see {lock}"


def _keep_touching(lock: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with suppress(OSError):
            os.utime(lock)
