"""Lock files: at most one of the runs that share a folder works on a file.

A lock file is created exclusively, which works on network disks, where fcntl locks often do not. Results are
written atomically anyway, so that two runs on the same file could only waste time.
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

HEARTBEAT_S = 30.0
"""How often a run updates the modification time of its lock file."""
STALE_S = 300.0
"""Age at which the lock of a run on another machine counts as abandoned; on this machine, it counts as soon
as the process is gone."""


@contextmanager
def claim(path: Path) -> Iterator[None]:
    """Lock the file at `path`, which need not exist, against other runs until the block ends.

    The lock is the file `.<name>.lock` next to it, touched every half minute. The lock of a run that was
    killed is taken over.

    Raises:
        BusyError: If another run is working on it.
        StoreError: If the disk is full, or the folder is not writable.
    """
    lock, signature = path.with_name(f".{path.name}.lock"), _signature()
    if not _create(lock, signature, of=path):
        if not _is_abandoned(lock):
            raise BusyError(f"{path}: another run works on it ({_holder(lock)}); wait for it, or stop it")
        with store_errors(path, every=True):
            lock.unlink(missing_ok=True)
        if not _create(lock, signature, of=path):
            raise BusyError(f"{path}: another run has just started it ({_holder(lock)}); wait for it")
    ended = threading.Event()
    heartbeat = threading.Thread(target=_keep_touching, args=(lock, ended), daemon=True)
    heartbeat.start()
    try:
        yield
    finally:
        ended.set()
        heartbeat.join()
        # No longer ours if this process was suspended so long that another run took the lock over.
        with suppress(OSError):
            if lock.read_text(encoding="utf-8") == signature:
                lock.unlink()


def _signature() -> str:
    """The content of a lock file: host and process, and an id, because process ids are reused."""
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex})


def _create(lock: Path, content: str, *, of: Path) -> bool:
    """Whether this run created the lock file; False if it already existed."""
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
    """Whether the run that holds a lock is gone: its process on this machine, or a lock file not updated."""
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        if holder["host"] == socket.gethostname() and not _is_running(int(holder["pid"])):
            return True
        return _file_server_time(lock.parent) - lock.stat().st_mtime > STALE_S
    except FileNotFoundError:
        return True
    except (OSError, ValueError, LookupError, TypeError):
        # Just created and still empty, or written by another program: only its age counts.
        with suppress(OSError):
            return _file_server_time(lock.parent) - lock.stat().st_mtime > STALE_S
        return False


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _file_server_time(folder: Path) -> float:
    """The current time by the clock that sets modification times in a folder, which may be a server's."""
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
    while not ended.wait(HEARTBEAT_S):
        with suppress(OSError):
            os.utime(lock)
