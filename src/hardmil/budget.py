"""How much a file may take: checked before anything is allocated, as a small file can claim any size.

The limits are far above what the files of a study need, and far below the memory of a laptop.
"""

import errno
import os
import stat
from pathlib import Path

MIB = 1 << 20

FREE_BYTES = 512 * MIB
"""What any file may take in memory, however small: the features of 87,000 patches with 1,536 numbers."""
RATIO = 20
"""A larger array takes at most this many times the size of its file. Features hardly compress; the pixels of
patches compress up to tenfold."""
YAML_BYTES = MIB // 4
"""Largest study.yaml, which is read at 100 kB/s. With all settings and their comments, it has 20 kB."""
TABLE_BYTES = 128 * MIB
"""Largest table: a million rows of 130 bytes, which take ten times as much memory."""
JSON_BYTES = 256 * MIB
"""Largest JSON file. The record of a trial has a few megabytes."""
GEOJSON_BYTES = 128 * MIB
"""Largest GeoJSON file, which takes twenty times as much memory: a million areas that were drawn by hand."""
MAX_EDGE_PX = 600_000
"""Longest edge of a slide: 75 mm of glass at 0.125 um/px. A strip across it is read at once."""
SHOWN_CHARS = 200
"""How much of a value is shown in an error."""

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def not_a_file(path: Path) -> str | None:
    """What a path is that cannot be read as a file, such as `a named pipe`; None for files and folders.

    Reading a pipe waits until another program writes, and some devices have no end.

    Raises:
        OSError: If there is nothing at the path, or it cannot be looked at.
    """
    mode = path.stat().st_mode
    return next((name for is_kind, name in _KINDS if is_kind(mode)), None)


def check_file(path: Path) -> None:
    """Check that a path can be read as a file, before it is opened.

    Raises:
        OSError: If there is nothing at the path, or it is a pipe, a socket or a device.
    """
    found = not_a_file(path)
    if found is not None:
        raise OSError(errno.EINVAL, f"it is {found}, expected a file", str(path))


def read_bytes(path: Path, *, most: int) -> bytes:
    """The content of a file of at most this many bytes.

    Raises:
        OSError: If it cannot be read, is not a file, or is larger; `strerror` says which.
    """
    check_file(path)
    size = path.stat().st_size
    if size > most:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, expected at most {most:,}", str(path))
    return path.read_bytes()


def read_text(path: Path, *, most: int, encoding: str = "utf-8") -> str:
    """The text of a file of at most this many bytes.

    Raises:
        OSError: If it cannot be read, is not a file, or is larger; `strerror` says which.
        UnicodeDecodeError: If it is not text in this encoding.
    """
    return read_bytes(path, most=most).decode(encoding).replace("\r\n", "\n")


def too_large(n_bytes: int, *, path: Path) -> str | None:
    """Why an array of this size is not read from a file, for a message; None if it may be read."""
    return too_large_for(n_bytes, stored=os.stat(path).st_size)


def too_large_for(n_bytes: int, *, stored: int) -> str | None:
    """Why an array of this size is not read from so many bytes on disk; None if it may be read."""
    limit = max(FREE_BYTES, RATIO * stored)
    if n_bytes <= limit:
        return None
    return (
        f"{n_bytes:,} bytes in memory, from a file of {stored:,} bytes; expected at most {limit:,}, which is "
        f"{RATIO} times the file, or {FREE_BYTES // MIB} MiB"
    )


def shown(value: object) -> str:
    """A value as in Python, cut after `SHOWN_CHARS` characters."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}... ({len(text):,} characters)"
