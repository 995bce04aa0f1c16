"""What the chunks of a zarr array become in memory, found before they are decoded.

A chunk of 33 kB can hold a gigabyte of zeros. Its own header says how many bytes it becomes, and the decoders
take no more than that; here they are compared to the shape of the array.
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COMPRESSORS = ("zstd", "blosc", "lz4", "gzip", "zlib")
SHARDS = "sharding_indexed"
_KEEP_SIZE = ("bytes", "transpose", "crc32c")
_INDEX = ("bytes", "crc32c")
_NOT_STORED = 2**64 - 1
CHECKSUM_BYTES = 4
"""Of crc32c, which stands after a chunk, compressed or not."""
_ZSTD_MAGIC, _RLE = b"\x28\xb5\x2f\xfd", 1


def chunk_problem(array: Any, folder: Path) -> str | None:
    """Why the chunks of an array are not decoded, for a message; None if they may be.

    Source: zarr specifications 2 and 3; RFC 8878 (zstd), RFC 1950 and 1952 (zlib and gzip); the headers of
    blosc (`README_CHUNK_FORMAT`) and of LZ4 in numcodecs.
    """
    codecs = _codecs(array.metadata.to_dict())
    shape: Sequence[int] = array.chunks
    is_sharded = [name for name, _ in codecs] == [SHARDS]
    if is_sharded:
        own = codecs[0][1]
        if _names(own.get("index_codecs", ())) != _INDEX or own.get("index_location", "end") != "end":
            return "in shards with an index of another kind; expected bytes and crc32c at their end"
        codecs = _listed(own["codecs"])
    names = [name for name, _ in codecs]
    compressors = [name for name in names if name not in _KEEP_SIZE]
    if len(compressors) > 1 or not set(compressors) <= set(COMPRESSORS):
        return f"encoded by {', '.join(names)}; expected no more than one of {', '.join(COMPRESSORS)}"
    n_bytes = math.prod(shape) * np.dtype(array.dtype).itemsize
    n_inner = math.prod(array.shards) // math.prod(shape) if is_sharded else 0
    for path in _chunk_files(folder):
        pieces = _pieces(path, n_inner) if is_sharded else [path.read_bytes()]
        for piece in pieces:
            found = _decoded_bytes(piece, compressors[0], most=n_bytes) if compressors else len(piece)
            if found is None or found > n_bytes + CHECKSUM_BYTES:
                size = "an unknown number of bytes" if found is None else f"{found:,} bytes or more"
                return f"with a chunk ({path.name}) that becomes {size}; expected {n_bytes:,}"
    return None


def _codecs(metadata: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The codecs of an array by name, with their settings."""
    if metadata["zarr_format"] == 3:
        return _listed(metadata["codecs"])
    both = (*(metadata.get("filters") or ()), metadata.get("compressor"))
    return [(str(one["id"]), one) for one in both if one is not None]


def _listed(codecs: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(str(one["name"]), one.get("configuration") or {}) for one in codecs]


def _names(codecs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(name for name, _ in _listed(codecs))


def _chunk_files(folder: Path) -> Iterator[Path]:
    for at, _, names in os.walk(folder):
        yield from (Path(at) / name for name in names if name != "zarr.json" and not name.startswith(".z"))


def _pieces(path: Path, n: int) -> Iterator[bytes]:
    """The chunks in a shard: at its end are the offset and size of each, and a checksum of 4 bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - 16 * n - 4, 0))
        index = file.read(16 * n)
        for offset, length in np.frombuffer(index[: len(index) // 16 * 16], dtype="<u8").reshape(-1, 2):
            if offset != _NOT_STORED and offset + length <= size:
                file.seek(int(offset))
                yield file.read(int(length))


def _decoded_bytes(chunk: bytes, compressor: str, *, most: int) -> int | None:
    """How many bytes a chunk becomes, as far as `most` goes; None if it does not say."""
    if compressor == "zstd":
        return _zstd_bytes(chunk)
    if compressor == "blosc":
        return struct.unpack_from("<I", chunk, 4)[0] if len(chunk) >= 16 else None
    if compressor == "lz4":
        return struct.unpack_from("<I", chunk)[0] if len(chunk) >= 4 else None
    decompressor = zlib.decompressobj(wbits=47)
    try:
        found = len(decompressor.decompress(chunk, most + 5))
    except zlib.error:
        return 0  # which zarr says in its own words
    # A gzip file can have further members, which are decoded too.
    return None if len(decompressor.unused_data) > CHECKSUM_BYTES else found


def _zstd_bytes(chunk: bytes) -> int | None:
    """The size in the header of a zstd frame; None where it has none, or something follows the frame."""
    if len(chunk) < 6 or chunk[:4] != _ZSTD_MAGIC:
        return None
    flags = chunk[4]
    is_single = bool(flags & 0x20)
    n_size = (1 if is_single else 0, 2, 4, 8)[flags >> 6]
    start = 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
    at, is_last = start + n_size, False
    while not is_last and at + 3 <= len(chunk):
        header = int.from_bytes(chunk[at : at + 3], "little")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        at += 3 + (1 if kind == _RLE else size)
    # Two checksums may follow: that of the frame, and that of the chunk.
    if n_size == 0 or at + 2 * CHECKSUM_BYTES < len(chunk):
        return None
    return int.from_bytes(chunk[start : start + n_size], "little") + (256 if n_size == 2 else 0)
