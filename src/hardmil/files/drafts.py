"""Names of drafts: files that are being written. A later run removes those whose writer is gone."""

import hashlib
import re
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hardmil.files.writer import Writer, this_process

STALE_S = 24 * 3600.0
"""Age at which the draft of another machine counts as left behind."""

_DRAFT = re.compile(r"\..*\.([0-9a-f]{12})-(\d+)-(\d*)-[0-9a-f]{8}(\.[^.]*)?")


def draft_path(path: Path) -> Path:
    """A new name for a draft of a file, in the same folder: a rename is only atomic within one file system.

    The dot hides it, see `visible`; the suffix is kept for writers that choose the format by it.
    """
    writer = this_process()
    tag = f"{_machine(writer)}-{writer.pid}-{writer.start}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{path.stem[:80]}.{tag}{path.suffix}")


def hidden(paths: Iterable[Path]) -> list[Path]:
    """The paths whose names begin with a dot, in sorted order: drafts, locks, files of the system."""
    return sorted(path for path in paths if path.name.startswith("."))


def remove_drafts(folder: Path) -> int:
    """Remove the drafts that killed processes left in a folder and below; how many there were."""
    left = [path for path in hidden(folder.rglob(".*")) if _is_left(path)]
    for path in left:
        with suppress(OSError):
            path.unlink()
    return len(left)


def _is_left(path: Path) -> bool:
    found = _DRAFT.fullmatch(path.name)
    if found is None:
        return False
    here, (machine, pid, start, _) = this_process(), found.groups()
    if machine == _machine(here):
        return Writer(here.host, here.boot, int(pid), start).is_gone
    if machine[:6] == _machine(here)[:6] and here.boot:
        return True  # this machine, before it was started again
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > STALE_S
    return False


def _machine(writer: Writer) -> str:
    """Twelve hex digits: the first six are of the machine, the others change when it starts."""
    return _short(writer.host) + _short(writer.boot)


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
