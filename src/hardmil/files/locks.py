"""Lock files: at most one of the runs that share a folder works on a file.

A lock file is created exclusively, which works on network disks, where fcntl locks often do not. Results are
written atomically anyway, so that two runs on the same file could only waste time.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from hardmil.errors import BusyError
from hardmil.files.atomic import store_errors
from hardmil.files.drafts import draft_path, hidden
from hardmil.files.writer import Writer, this_process
from hardmil.stopping import undone_at_stop

HEARTBEAT_S = 30.0
"""How often a run updates the modification time of its lock file."""
STALE_S = 300.0
"""Age at which the lock of a run on another machine counts as abandoned; on this machine, it counts as soon
as the process is gone."""
POLL_S = 0.1
"""How often a run that waits looks again."""
UNREADABLE_S = 10.0
"""The same for a lock that cannot be read. Locks are written whole, so no run of this version made it."""


@contextmanager
def locked(path: Path, *, patience_s: float = 0.0) -> Iterator[None]:
    """Lock the file at `path`, which need not exist, against other runs until the block ends.

    The lock is the file `.<name>.lock` next to it, touched every half minute. The lock of a run that was
    killed is taken over.

    Args:
        path: The file.
        patience_s: How many seconds to wait for another run.

    Raises:
        BusyError: If another run is working on it.
        StoreError: If the disk is full, or the folder is not writable.
    """
    lock, signature = path.with_name(f".{path.name}.lock"), _signature()
    # Listed before there is a lock: `_release` only removes one of this run.
    with undone_at_stop(partial(_release, lock, signature)):
        deadline = time.monotonic() + patience_s
        while not _take(lock, signature, of=path):
            if time.monotonic() >= deadline:
                raise BusyError(f"{path}: another run works on it ({_holder(lock)}); wait for it, or stop it")
            time.sleep(POLL_S)
        ended = threading.Event()
        heartbeat = threading.Thread(target=_keep_touching, args=(lock, ended), daemon=True)
        heartbeat.start()
        try:
            yield
        finally:
            ended.set()
            heartbeat.join()
            _release(lock, signature)


def _release(lock: Path, signature: str) -> None:
    """Remove a lock of this run.

    It is no longer ours if this process was suspended so long that another run took it over.
    """
    with suppress(OSError):
        if lock.read_text(encoding="utf-8") == signature:
            lock.unlink()


def _take(lock: Path, signature: str, *, of: Path) -> bool:
    """Whether this run has the lock now: there was none, or that of a run that is gone."""
    if _create(lock, signature, of=of):
        return True
    if not _is_abandoned(lock):
        return False
    with store_errors(of, every=True):
        lock.unlink(missing_ok=True)
    return _create(lock, signature, of=of)


def holders(folder: Path) -> list[str]:
    """The runs that hold locks in a folder, such as `process 17 on node-3`."""
    return sorted({_holder(lock) for lock in hidden(folder.glob(".*.lock"))})


def _signature() -> str:
    """The content of a lock file: the process, and an id, as one process may lock a file several times."""
    return json.dumps({**asdict(this_process()), "id": uuid.uuid4().hex})


def _create(lock: Path, content: str, *, of: Path) -> bool:
    """Whether this run created the lock file; False if it already existed. It is never seen half written."""
    with store_errors(of, every=True):
        lock.parent.mkdir(parents=True, exist_ok=True)
        draft = draft_path(lock)
        try:
            draft.write_text(content, encoding="utf-8")
            return _link(draft, lock)
        finally:
            draft.unlink(missing_ok=True)


def _link(draft: Path, lock: Path) -> bool:
    """Whether the lock was made from its draft; False if it already existed."""
    try:
        os.link(draft, lock)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links: the lock is empty for a moment.
        try:
            with lock.open("x", encoding="utf-8") as file:
                file.write(draft.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
        except OSError:
            lock.unlink(missing_ok=True)
            raise
    return True


def _is_abandoned(lock: Path) -> bool:
    """Whether the run that holds a lock is gone: its process on this machine, or a lock file not updated."""
    holder = _read_holder(lock)
    if holder is not None and holder.is_gone:
        return True
    try:
        # A time in the future is no better than one in the past: a run that is there updates it.
        age_s = abs(_file_server_time(lock.parent) - lock.stat().st_mtime)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return age_s > (UNREADABLE_S if holder is None else STALE_S)


def _file_server_time(folder: Path) -> float:
    """The current time by the clock that sets modification times in a folder, which may be a server's."""
    probe = draft_path(folder / "now")
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _read_holder(lock: Path) -> Writer | None:
    """The process in a lock file; None where it cannot be read."""
    try:
        found = json.loads(lock.read_text(encoding="utf-8"))
        # Locks of early versions have neither `boot` nor `start`.
        text = {name: str(found.get(name, "")) for name in ("boot", "start")}
        return Writer(host=str(found["host"]), pid=int(found["pid"]), **text)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _holder(lock: Path) -> str:
    holder = _read_holder(lock)
    return f"see {lock}" if holder is None else f"process {holder.pid} on {holder.host}"


def _keep_touching(lock: Path, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        with suppress(OSError):
            os.utime(lock)
