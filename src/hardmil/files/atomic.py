"""Files that are whole or not there: write-then-rename, JSON, and the record of a run."""

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hardmil.errors import HardmilError, StoreError, TableError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the name `path` only when the block ends without an error.

    A reader, or a run started again, so never meets half a file. The parent folder is made.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    # In the same folder: a rename is only atomic within one file system. The dot hides a leftover of a
    # killed process from whoever lists the folder; the suffix stays for writers that choose by it.
    draft = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        with store_errors(path, every=True):
            path.parent.mkdir(parents=True, exist_ok=True)
        with store_errors(path):
            yield draft
        with store_errors(path, every=True):
            _flush(draft)
            os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with write_atomically(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_text_once(path: Path, text: str) -> None:
    """Write a text file, atomically, unless it is there with the same text.

    Raises:
        StoreError: If it is there with another text, the disk is full, or the folder may not be written.
    """
    if not path.exists():
        with write_atomically(path) as draft:
            draft.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise StoreError(f"{path}: exists with other content; delete it, or choose another folder")


def read_json(path: Path) -> object:
    """The value in a JSON file.

    Raises:
        TableError: If the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file; expected a JSON file that hardmil wrote there") from error
    except ValueError as error:
        raise TableError(f"{path}: not JSON ({error}); delete it and run the command again") from error


def no_room_left(error: BaseException) -> bool:
    """Whether an error says that the disk is full, so that every later write will fail as well."""
    if not isinstance(error, OSError):
        return False
    # HDF5 carries the number of the system's error in its text, and not always in errno.
    return error.errno in _NO_ROOM or any(f"errno = {number}," in str(error) for number in _NO_ROOM)


@contextmanager
def store_errors(path: Path, *, every: bool = False) -> Iterator[None]:
    """Turn the system's refusals to write into StoreError; `every`: whatever the system says."""
    try:
        yield
    except HardmilError:
        raise
    except OSError as error:
        if no_room_left(error):
            raise StoreError(
                f"{path}: the disk is full; expected room for one more file; free some space, or choose "
                "another folder, and run the command again: what is finished is kept"
            ) from error
        if every or error.errno in _NOT_ALLOWED:
            raise StoreError(
                f"{path}: cannot be written ({error.strerror or error}); expected a folder that you may "
                "write to; change its permissions or choose another folder"
            ) from error
        raise


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
