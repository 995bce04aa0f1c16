from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardmil.errors import FeatureFileError
from hardmil.files.zarr_store import array_of, open_store

zarr = pytest.importorskip("zarr")
numcodecs = pytest.importorskip("numcodecs")
VALUES = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
ZEROS = np.zeros(1 << 24, np.uint8)
BOMBS = {
    "zstd": bytes(numcodecs.Zstd().encode(ZEROS)),
    "blosc": bytes(numcodecs.Blosc(cname="zstd").encode(ZEROS)),
    "gzip": bytes(numcodecs.GZip().encode(ZEROS)),
    "zlib": bytes(numcodecs.Zlib().encode(ZEROS)),
    "lz4": bytes(numcodecs.LZ4().encode(ZEROS)),
}
COMPRESSORS_3 = {
    "none": None,
    "zstd": zarr.codecs.ZstdCodec(),
    "zstd with checksums": [zarr.codecs.ZstdCodec(checksum=True), zarr.codecs.Crc32cCodec()],
    "blosc": zarr.codecs.BloscCodec(cname="zstd"),
    "gzip": zarr.codecs.GzipCodec(),
}
COMPRESSORS_2 = {
    "none": None,
    "zstd": numcodecs.Zstd(),
    "blosc": numcodecs.Blosc(),
    "gzip": numcodecs.GZip(),
    "zlib": numcodecs.Zlib(),
    "lz4": numcodecs.LZ4(),
}


def _write(path: Path, *, zarr_format: int, **options: Any) -> Path:
    """An array in a store, and the folder of its chunks."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    array = group.create_array("X", shape=VALUES.shape, dtype="float32", **{"chunks": (16, 8), **options})
    array[...] = VALUES
    return path / "X"


def _read(path: Path) -> np.ndarray:
    with open_store(path) as group:
        return array_of(group, "X", path=path)


def _first_chunk(folder: Path) -> Path:
    return min(one for one in folder.rglob("*") if one.is_file() and one.name[0] not in ".z")


@pytest.mark.parametrize("name", COMPRESSORS_3)
@pytest.mark.parametrize("shards", [None, (32, 8)])
def test_every_compressor_of_format_3_is_read(tmp_path: Path, name: str, shards: object):
    options = {"compressors": COMPRESSORS_3[name], "shards": shards}
    _write(tmp_path / "a.zarr", zarr_format=3, **options)
    np.testing.assert_array_equal(_read(tmp_path / "a.zarr"), VALUES)


@pytest.mark.parametrize("name", COMPRESSORS_2)
def test_every_compressor_of_format_2_is_read(tmp_path: Path, name: str):
    _write(tmp_path / "a.zarr", zarr_format=2, compressors=COMPRESSORS_2[name])
    np.testing.assert_array_equal(_read(tmp_path / "a.zarr"), VALUES)


@pytest.mark.parametrize("name", BOMBS)
def test_a_chunk_that_becomes_more_than_its_shape_is_refused(tmp_path: Path, name: str):
    folder = _write(tmp_path / "a.zarr", zarr_format=2, compressors=COMPRESSORS_2[name])
    _first_chunk(folder).write_bytes(BOMBS[name])
    with pytest.raises(
        FeatureFileError, match=r"a chunk \(0\.0\) that becomes .* or more; expected 512; write"
    ):
        _read(tmp_path / "a.zarr")


def test_zstd_is_refused_where_it_hides_its_size(tmp_path: Path):
    small, bomb = bytes(numcodecs.Zstd().encode(VALUES[:16])), BOMBS["zstd"]
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    folder = _write(tmp_path / "a.zarr", zarr_format=2, compressors=numcodecs.Zstd())
    for content in (small + bomb, skipped + bomb, bomb[:4] + b"\x00\x58" + bomb[10:]):
        _first_chunk(folder).write_bytes(content)
        with pytest.raises(FeatureFileError, match="becomes an unknown number of bytes; expected 512"):
            _read(tmp_path / "a.zarr")


def test_further_members_of_gzip_are_refused(tmp_path: Path):
    folder = _write(tmp_path / "a.zarr", zarr_format=2, compressors=numcodecs.GZip())
    _first_chunk(folder).write_bytes(bytes(numcodecs.GZip().encode(VALUES[:16])) + BOMBS["gzip"])
    with pytest.raises(FeatureFileError, match="becomes an unknown number of bytes; expected 512"):
        _read(tmp_path / "a.zarr")


def test_a_shard_is_searched_for_large_chunks(tmp_path: Path):
    folder = _write(tmp_path / "a.zarr", zarr_format=3, chunks=(8, 8), shards=(40, 8))
    path, bomb = _first_chunk(folder), BOMBS["zstd"]
    content = path.read_bytes()
    index = np.frombuffer(content[-16 * 5 - 4 : -4], dtype="<u8").reshape(5, 2).copy()
    index[3] = len(content), len(bomb)
    path.write_bytes(content + bomb + index.tobytes() + content[-4:])
    with pytest.raises(FeatureFileError, match=r"becomes 16,777,216 bytes or more; expected 256"):
        _read(tmp_path / "a.zarr")


def test_other_codecs_are_refused_by_name(tmp_path: Path):
    _write(tmp_path / "a.zarr", zarr_format=2, compressors=numcodecs.LZMA())
    with pytest.raises(FeatureFileError, match="encoded by lzma; expected no more than one of zstd, blosc"):
        _read(tmp_path / "a.zarr")
    _write(tmp_path / "b.zarr", zarr_format=3, compressors=[zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec()])
    with pytest.raises(FeatureFileError, match="encoded by bytes, gzip, zstd; expected no more than one"):
        _read(tmp_path / "b.zarr")


@pytest.mark.parametrize("name", COMPRESSORS_2)
def test_a_cut_chunk_is_refused(tmp_path: Path, name: str):
    path = _first_chunk(_write(tmp_path / "a.zarr", zarr_format=2, compressors=COMPRESSORS_2[name]))
    path.write_bytes(path.read_bytes()[:3])
    with pytest.raises(FeatureFileError, match=r"a\.zarr: "):
        _read(tmp_path / "a.zarr")


def test_many_chunks_that_are_mostly_outside_the_array_are_counted_whole(tmp_path: Path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("X", shape=(100, 1), dtype="float32", chunks=(1, 10_000_000))
    with pytest.raises(FeatureFileError, match=r"4,000,000,000 bytes in memory"):
        _read(tmp_path / "a.zarr")
