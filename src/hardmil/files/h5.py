"""HDF5 files: atomic writes, and errors that name the file."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from hardmil.budget import check_file
from hardmil.errors import FeatureFileError, HardmilError
from hardmil.files.atomic import write_atomically
from hardmil.files.h5_checks import check_attributes, check_heaps, check_links, check_superblock

_BEYOND = (MemoryError, OverflowError, AssertionError, AttributeError)
"""What numpy and h5py raise for sizes and types that no file should have."""


@contextmanager
def write_h5(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file to write to; it appears at `path` when the block ends without an error.

    Everything is written to disk at once, so a file may be larger than memory.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    with write_growing_h5(path) as (file, _):
        yield file


@contextmanager
def write_growing_h5(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """As `write_h5`, with a function that raises the error if an earlier part could not be written.

    Call it between parts, to stop early.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    with write_atomically(path) as draft, draft.open("w+b") as raw:
        kept = _ErrorKeepingFile(raw)
        with h5py.File(kept, "w") as file:
            yield file, kept.raise_error
        kept.raise_error()


@contextmanager
def open_h5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file, open for reading.

    Raises:
        FeatureFileError: If it is missing, in use, damaged, or has links to other files, even if that is
            found only during the block.
    """
    try:
        check_file(path)
        check_superblock(path)
        check_heaps(path)
        with h5py.File(path, "r") as file:
            check_links(file, path=path)
            check_attributes(file, path=path)
            yield file
    except HardmilError:
        raise
    except (*(OSError, RuntimeError, LookupError, ValueError, TypeError), *_BEYOND) as error:
        raise FeatureFileError(f"{path}: {_what_to_do(error)}") from error


def _what_to_do(error: Exception) -> str:
    """Why a file cannot be read, and what to do."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file; expected an HDF5 file; write it, or correct the path"
    if isinstance(error, PermissionError):
        return "no permission to read it; ask its owner, or change its permissions"
    if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
        return (
            "is in use: another program has locked it; wait until that has finished, or close the file; "
            "on a network disk without locks, set HDF5_USE_FILE_LOCKING=FALSE"
        )
    return (
        f"cannot be read ({error}); expected a complete HDF5 file; it is damaged, incomplete or of another "
        "kind; copy it or write it again"
    )


class _ErrorKeepingFile(io.RawIOBase):
    """A file for HDF5 to write to that keeps errors of the disk from HDF5.

    If the disk is full while HDF5 closes a file, HDF5 crashes the process (a segmentation fault, seen with
    h5py 3.16). Here the first error is stored, later writes are ignored, and `raise_error` raises it.
    """

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw = raw
        self._error: OSError | None = None
        self._at = 0
        self._end = 0

    def raise_error(self) -> None:
        """Raise the stored error, if there is one."""
        if self._error is not None:
            raise self._error

    def write(self, content: Any) -> int:
        """Write; after an error, only count the bytes."""
        size = memoryview(content).nbytes
        if self._error is None:
            try:
                self._raw.seek(self._at)
                self._raw.write(content)
                # Flush Python's buffer, or its error would come while HDF5 closes the file.
                self._raw.flush()
            except OSError as error:
                self._error = error
        self._at += size
        self._end = max(self._end, self._at)
        return size

    def readinto(self, into: Any) -> int:
        """Read back; zeros where an error prevented the write."""
        view = memoryview(into).cast("B")
        self._raw.seek(self._at)
        found = self._raw.read(view.nbytes)
        view[: len(found)] = found
        view[len(found) :] = bytes(view.nbytes - len(found))
        self._at += view.nbytes
        return view.nbytes

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """Set the size; after an error, only remember it."""
        self._end = self._at if size is None else size
        if self._error is None:
            try:
                self._raw.truncate(self._end)
            except OSError as error:
                self._error = error
        return self._end

    def flush(self) -> None:
        """Do nothing: `write` flushes already."""

    def readable(self) -> bool:
        """Always true."""
        return True

    def writable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True
