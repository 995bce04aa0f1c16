"""HDF5 files that are whole or not there, and whose damage has a name."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from hardmil.errors import FeatureFileError, HardmilError
from hardmil.files.atomic import write_atomically


@contextmanager
def write_h5(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file to write to; it appears at `path`, whole, when the block ends without an error.

    What is written goes to the disk at once: a file may be larger than memory.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    with write_growing_h5(path) as (file, _):
        yield file


@contextmanager
def write_growing_h5(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """The same, and what to call between parts: it raises as soon as one could not be written.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    with write_atomically(path) as draft, draft.open("w+b") as raw:
        guarded = _Guarded(raw)
        with h5py.File(guarded, "w") as file:
            yield file, guarded.tell_error
        guarded.tell_error()


@contextmanager
def open_h5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to read from.

    Raises:
        FeatureFileError: If it is missing or damaged, also when that shows only in the block.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except HardmilError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError, OverflowError) as error:
        raise FeatureFileError(
            f"{path}: cannot be read ({error}); expected a whole HDF5 file; delete it and write it again"
        ) from error


class _Guarded(io.RawIOBase):
    """A file for HDF5 to write to that never lets it see an error of the disk.

    HDF5, met by a full disk while it closes a file, kills the process (segmentation fault, seen with HDF5 in
    h5py 3.16). Here the first error is kept, what comes after it goes nowhere, and `tell_error` raises it.
    """

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw = raw
        self._error: OSError | None = None
        self._at = 0
        self._end = 0

    def tell_error(self) -> None:
        """Raise the error that was kept, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, content: Any) -> int:
        """Write, or do as if."""
        size = memoryview(content).nbytes
        if self._error is None:
            try:
                self._raw.seek(self._at)
                self._raw.write(content)
                # Past Python's buffer: an error that came later would come while HDF5 closes the file.
                self._raw.flush()
            except OSError as error:
                self._error = error
        self._at += size
        self._end = max(self._end, self._at)
        return size

    def readinto(self, into: Any) -> int:
        """Read back; zeros for what an error kept from being written."""
        view = memoryview(into).cast("B")
        self._raw.seek(self._at)
        found = self._raw.read(view.nbytes)
        view[: len(found)] = found
        view[len(found) :] = bytes(view.nbytes - len(found))
        self._at += view.nbytes
        return view.nbytes

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or do as if."""
        self._end = self._at if size is None else size
        if self._error is None:
            try:
                self._raw.truncate(self._end)
            except OSError as error:
                self._error = error
        return self._end

    def flush(self) -> None:
        """Nothing is kept back."""

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True
