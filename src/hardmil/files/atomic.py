"""Atomic writes: a file is complete or absent. Also JSON files and listings of folders."""

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from hardmil.budget import JSON_BYTES, read_text
from hardmil.errors import HardmilError, StoreError, TableError
from hardmil.files.drafts import draft_path, remove_drafts
from hardmil.stopping import undone_at_stop

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG),
    *(errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV),
)
"""Errors of the folder or its disk; EFBIG is the limit that a system sets for the size of files."""


def _usual_mode() -> int:
    """The mode of a new file; the process has to set its mask to read it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return 0o666 & ~mask


_USUAL_MODE = _usual_mode()


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A draft to write to, which is renamed to `path` when the block ends without an error.

    Readers and later runs therefore never see an incomplete file. The parent folder is created.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    draft = draft_path(path)
    try:
        with store_errors(path, every=True):
            path.parent.mkdir(parents=True, exist_ok=True)
        with undone_at_stop(partial(draft.unlink, missing_ok=True)):
            with store_errors(path):
                yield draft
            with store_errors(path, every=True):
                _flush(draft)
                # Some writers let only the owner read; not every file system has modes.
                with suppress(OSError):
                    draft.chmod(_USUAL_MODE)
                os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Check that files can be written to a folder, before work whose result will go there.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    draft = draft_path(folder / "check")
    with store_errors(folder, every=True):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(
                "whether the disk is full shows only when something is written", encoding="utf-8"
            )
        finally:
            draft.unlink(missing_ok=True)


def prepare_folder(folder: Path) -> None:
    """Check that files can be written to a folder, and remove the drafts that killed processes left in it.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    check_writable(folder)
    remove_drafts(folder)


def visible(paths: Iterable[Path]) -> list[Path]:
    """The paths that are not hidden, in sorted order.

    Hidden files in a folder are drafts of unfinished writes, locks, and files of the operating system. Unlike
    a shell, `Path.glob` and `Path.iterdir` list them, so every listing goes through this function.
    """
    return sorted(path for path in paths if not path.name.startswith("."))


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with write_atomically(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_text_once(path: Path, text: str) -> None:
    """Write a text file atomically, unless it exists with the same text.

    Raises:
        StoreError: If it exists with another text, the disk is full, or the folder is not writable.
    """
    if not path.exists():
        with write_atomically(path) as draft:
            draft.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise StoreError(f"{path}: exists with other content; move it away, or choose another folder")


def read_json(path: Path) -> object:
    """The value in a JSON file.

    Raises:
        TableError: If the file is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_text(path, most=JSON_BYTES))
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file; expected a JSON file that hardmil wrote there") from error
    except OSError as error:
        raise TableError(
            f"{path}: cannot be read ({error.strerror}); expected a JSON file that hardmil wrote there; move "
            "it away and run again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path}: not JSON ({error}); move it away and run again") from error


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full, so that every later write fails too."""
    if not isinstance(error, OSError):
        return False
    # HDF5 gives the error number of the system in its message, and not always in errno.
    return error.errno in _DISK_FULL or any(f"errno = {number}," in str(error) for number in _DISK_FULL)


@contextmanager
def store_errors(path: Path, *, every: bool = False) -> Iterator[None]:
    """Convert errors of the system on writing to StoreError; with `every`, any OSError."""
    try:
        yield
    except HardmilError:
        raise
    except OSError as error:
        if is_disk_full(error):
            raise StoreError(
                f"{path}: the disk is full; expected space for this file; free some space, or choose another "
                "folder, and run the command again: finished files are kept"
            ) from error
        if every or error.errno in _NOT_WRITABLE:
            raise StoreError(
                f"{path}: cannot be written ({error.strerror or error}); expected a writable folder; change "
                "its permissions or choose another folder"
            ) from error
        raise


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
