"""What is refused in an HDF5 file before values are read: other files, and impossible or very large sizes."""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from hardmil.budget import MIB, too_large
from hardmil.errors import FeatureFileError

MAX_CHUNKS = 1_000_000
"""Most chunks of a dataset. CLAM writes one for each patch; 100,000 patches are a large slide."""
ATTRIBUTE_BYTES = MIB
"""Largest attribute; those of feature files are single numbers and names."""
HEAPS_BYTES = 16 * MIB
"""Largest file whose heaps are looked at, which takes some milliseconds."""
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PLAIN = "iufbcSU"
"""Kinds of numpy's types for numbers and text of one length."""
_HEAP = b"GCOL\x01\0\0\0"
_DEFLATE = h5py.h5z.FILTER_DEFLATE
_DEFLATE_RATIO = 1032
"""How many bytes a byte can become by deflate."""
_UNCHECKED_CHUNK_BYTES = 256 * MIB
"""What a compressed chunk may grow to before it is tried; HDF5 itself has no limit."""


def check_superblock(path: Path) -> None:
    """Check that a file names no driver of its own, for which HDF5 would allocate any size it states.

    Raises:
        FeatureFileError: If it does.
        OSError: If the file cannot be read.

    Source: HDF5 File Format Specification 3.0, II.A: superblocks of version 0 and 1.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if len(start) < 64 or start[:8] != _SIGNATURE or start[8] > 1:
        return
    n = start[13]
    at = (24 if start[8] == 0 else 28) + 3 * n
    if start[at : at + n] != b"\xff" * n:
        raise FeatureFileError(
            f"{path}: its first bytes name a driver; expected an HDF5 file in one piece; it is damaged, or "
            "one of several parts: copy it or write it again"
        )


def check_heaps(path: Path) -> None:
    """Check the heaps of a small file, which hold the text of its attributes.

    With a size of 0, or near 2^64, HDF5 would read the same place without end.

    Raises:
        FeatureFileError: If a size is impossible.
        OSError: If the file cannot be read.
    """
    if not 0 < path.stat().st_size <= HEAPS_BYTES:
        return
    content = path.read_bytes()
    if not all(_is_sound(content, heap) for heap in _places(content, _HEAP)):
        raise FeatureFileError(f"{path}: the text of its attributes is damaged; copy it or write it again")


def _is_sound(content: bytes, heap: int) -> bool:
    """Whether the objects of a heap follow each other up to its end."""
    (size,) = struct.unpack_from("<Q", content.ljust(heap + 16, b"\0"), heap + 8)
    end = heap + size
    if not 16 <= size <= len(content) - heap:
        return False
    at = heap + 16
    while at + 16 <= end:
        number, n_bytes = struct.unpack_from("<H6xQ", content, at)
        # The size of free space, number 0, includes its header; that of an object is padded to 8.
        step = n_bytes if number == 0 else 16 + _padded(n_bytes)
        if not 0 < step <= end - at:
            return False
        at += step
    return True


def _text_lengths(content: bytes, name: str, *, n: int) -> Iterator[int]:
    """The lengths that an attribute of `n` texts states, wherever an attribute of this name is in a file.

    Before its name are the sizes of name, type and shape; after them, 16 bytes for each text.
    """
    stored = name.encode() + b"\0"
    for at in _places(content, stored):
        for version, header in ((1, 8), (2, 8), (3, 9)):
            found = struct.unpack_from("<B1xHHH", content, at - header) if at >= header else (0, 0, 0, 0)
            if found[:2] != (version, len(stored)):
                continue
            begin = at + sum(_padded(size) if version == 1 else size for size in found[1:])
            for place in range(begin, min(begin + 16 * n, len(content) - 3), 16):
                yield struct.unpack_from("<I", content, place)[0]


def _padded(size: int) -> int:
    return -(-size // 8) * 8


def _places(content: bytes, pattern: bytes) -> Iterator[int]:
    at = content.find(pattern)
    while at >= 0:
        yield at
        at = content.find(pattern, at + 1)


def check_links(file: h5py.Group, *, path: Path) -> None:
    """Check that the names in a file, or in a group of it, are its own content, without following a link.

    Raises:
        FeatureFileError: If one is a link to another name or another file.
    """
    for name in file:
        link = file.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
            where = f"{link.filename}: {link.path}" if isinstance(link, h5py.ExternalLink) else link.path
            raise FeatureFileError(
                f"{path}: {name} is a link to {where}; expected values in this file; write it again with a "
                "copy of them"
            )


def check_attributes(item: h5py.Dataset | h5py.Group, *, path: Path) -> list[str]:
    """The names of the attributes that are numbers or text, after a check of their size.

    Of text in a small file, the length is checked as well, as HDF5 allocates what it states. Attributes of
    other types, such as lists of different lengths, are left out: if damaged, they end the process.

    Raises:
        FeatureFileError: If one is too large.
    """
    content: bytes | None = None
    readable: list[str] = []
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        if attribute.dtype.kind not in _PLAIN and h5py.check_string_dtype(attribute.dtype) is None:
            continue
        size = attribute.get_storage_size()
        if attribute.dtype.kind == "O" and size <= ATTRIBUTE_BYTES and path.stat().st_size <= HEAPS_BYTES:
            content = path.read_bytes() if content is None else content
            size = max(_text_lengths(content, name, n=size // 16), default=size)
        if size > ATTRIBUTE_BYTES:
            raise FeatureFileError(
                f"{path}: attribute {name} of {item.name} has {size:,} bytes; expected at most "
                f"{ATTRIBUTE_BYTES:,}; write the file again"
            )
        readable.append(name)
    return readable


def check_dataset(dataset: h5py.Dataset, *, path: Path) -> None:
    """Check that the values of a dataset are numbers in this file, and fit into memory.

    Raises:
        FeatureFileError: If they are in other files, are not numbers, or would take too much memory.
    """
    reason = _foreign(dataset) or _not_numbers(dataset) or _too_large(dataset, path=path)
    if reason is not None:
        raise FeatureFileError(f"{path}: {str(dataset.name)[1:]} {reason}; write the file again")


def _foreign(dataset: h5py.Dataset) -> str | None:
    if dataset.is_virtual:
        return "is a virtual dataset, whose values are in other files; expected them in this file"
    if dataset.external:
        return f"has its values in {dataset.external[0][0]}; expected them in this file"
    return None


def _not_numbers(dataset: h5py.Dataset) -> str | None:
    if dataset.shape is None or dataset.dtype.kind not in "iufbc":
        return f"holds {'nothing' if dataset.shape is None else dataset.dtype}; expected numbers"
    return None


def _too_large(dataset: h5py.Dataset, *, path: Path) -> str | None:
    reason = too_large(math.prod(dataset.shape) * dataset.dtype.itemsize, path=path)
    if reason is not None:
        return f"is {dataset.dtype} {dataset.shape}, {reason}"
    if dataset.chunks is None:
        return None
    n_chunks = math.prod(-(-n // edge) for n, edge in zip(dataset.shape, dataset.chunks, strict=True))
    if n_chunks > MAX_CHUNKS:
        return f"is stored in {n_chunks:,} chunks; expected at most {MAX_CHUNKS:,}"
    n_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    reason = too_large(n_bytes, path=path)
    if reason is not None:
        return f"is stored in chunks of {dataset.chunks}, {reason}"
    return _inflated(dataset, chunk_bytes=n_bytes)


def _inflated(dataset: h5py.Dataset, *, chunk_bytes: int) -> str | None:
    """Whether a compressed chunk holds more than a chunk has: HDF5 would expand all of it.

    Only chunks that could take much memory are tried; those of usual files are far smaller.
    """
    filters = dataset.id.get_create_plist()
    codes = [filters.get_filter(number)[0] for number in range(filters.get_nfilters())]
    if codes.count(_DEFLATE) > 1:
        return "is compressed twice; expected once"
    if _DEFLATE not in codes:
        return None
    large: list[tuple[int, ...]] = []

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.size * _DEFLATE_RATIO > _UNCHECKED_CHUNK_BYTES:
            large.append(chunk.chunk_offset)

    dataset.id.chunk_iter(note)
    for offset in large:
        mask, stored = dataset.id.read_direct_chunk(offset)
        if mask >> codes.index(_DEFLATE) & 1:
            continue
        if len(zlib.decompressobj().decompress(stored, chunk_bytes + 1)) > chunk_bytes:
            return f"has a compressed chunk of more than the {chunk_bytes:,} bytes that it states"
    return None
