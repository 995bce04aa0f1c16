"""Small HDF5 files that read other files, or claim much memory: each is refused in a moment, by name."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hardmil.bags.bag_file import read_bag
from hardmil.bags.h5_fields import attributes_of, dataset_of, values_of
from hardmil.errors import FeatureFileError
from hardmil.files import h5_checks
from hardmil.files.h5 import open_h5

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)


def _write(path: Path, put: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "w") as file:
        file["coords"] = np.zeros((4, 2), np.int64)
        put(file)
    return path


def _read(path: Path) -> np.ndarray:
    return read_bag(path, case_id="c", label=0).instances


@pytest.mark.parametrize(
    ("link", "where"),
    [
        (h5py.ExternalLink("/dev/zero", "/features"), "/dev/zero: /features"),
        (h5py.SoftLink("/other"), "/other"),
    ],
)
def test_links_are_refused_without_being_followed(tmp_path: Path, link: object, where: str):
    path = _write(tmp_path / "a.h5", lambda file: file.__setitem__("features", link))
    with pytest.raises(FeatureFileError, match=rf"a\.h5: features is a link to {where}; expected values in"):
        _read(path)


def test_values_in_other_files_are_refused(tmp_path: Path):
    (tmp_path / "secret").write_bytes(bytes(48))
    external = [(str(tmp_path / "secret"), 0, 48)]
    path = _write(
        tmp_path / "a.h5", lambda file: file.create_dataset("features", (4, 3), "f4", external=external)
    )
    with pytest.raises(
        FeatureFileError, match=r"a\.h5: features has its values in .*secret; expected them in"
    ):
        _read(path)
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "b.h5"), "features", (4, 3))
    path = _write(tmp_path / "v.h5", lambda file: file.create_virtual_dataset("features", layout))
    with pytest.raises(FeatureFileError, match=r"v\.h5: features is a virtual dataset"):
        _read(path)


@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [
        ((1 << 28, 1024), (1024, 1024), r"float32 \(268435456, 1024\), 1,099,511,627,776 bytes in memory"),
        ((4, 3), (1 << 18, 1 << 10), "in chunks of .* 1,073,741,824 bytes in memory"),
        ((1 << 20, 64), (1, 32), "in 2,097,152 chunks; expected at most 1,000,000"),
    ],
)
def test_a_file_that_claims_much_is_refused(
    tmp_path: Path, shape: tuple[int, int], chunks: tuple[int, int], message: str
):
    path = _write(
        tmp_path / "a.h5",
        lambda file: file.create_dataset("features", shape, "f4", chunks=chunks, maxshape=(None, None)),
    )
    assert path.stat().st_size < 10_000
    with pytest.raises(FeatureFileError, match=message):
        _read(path)


def test_a_chunk_that_holds_more_than_it_states_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def put(file: h5py.File) -> None:
        dataset = file.create_dataset("features", (4, 3), "f4", chunks=(4, 3), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 20)))

    path = _write(tmp_path / "a.h5", put)
    monkeypatch.setattr(h5_checks, "_UNCHECKED_CHUNK_BYTES", 1 << 19)
    with pytest.raises(FeatureFileError, match="a compressed chunk of more than the 48 bytes that it states"):
        _read(path)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf"}])
def test_usual_files_are_read_whatever_is_checked(
    tmp_path: Path, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(h5_checks, "_UNCHECKED_CHUNK_BYTES", 0)
    path = _write(
        tmp_path / "a.h5",
        lambda file: file.create_dataset(
            "features", data=FEATURES, chunks=(2, 3), fletcher32=True, **options
        ),
    )
    np.testing.assert_array_equal(_read(path), FEATURES)


def test_text_and_large_attributes_are_refused(tmp_path: Path):
    path = _write(tmp_path / "a.h5", lambda file: file.create_dataset("features", data=[["a"]] * 4))
    with pytest.raises(FeatureFileError, match="features holds object; expected numbers"):
        _read(path)

    def put(file: h5py.File) -> None:
        file.create_dataset("big", data=FEATURES, track_order=True).attrs.create("note", np.zeros(1 << 18))

    with h5py.File(tmp_path / "b.h5", "w", libver="latest") as file:
        put(file)
    with open_h5(tmp_path / "b.h5") as file:
        assert values_of(file, "big").shape == (4, 3)
        with pytest.raises(FeatureFileError, match=r"b\.h5: attribute note of /big has 2,097,152 bytes"):
            attributes_of(dataset_of(file, "big"))


@pytest.mark.parametrize("size", [0, 2**64 - 16])
def test_a_heap_that_hdf5_would_read_without_end_is_refused(tmp_path: Path, size: int):
    def put(file: h5py.File) -> None:
        file["features"] = FEATURES
        file["coords"].attrs["name"] = "s1"

    path = _write(tmp_path / "a.h5", put)
    np.testing.assert_array_equal(_read(path), FEATURES)
    content = bytearray(path.read_bytes())
    at = content.index(b"GCOL") + 16
    assert content[at : at + 2] == b"\1\0"
    if size == 0:
        content[at : at + 2] = bytes(2)
    content[at + 8 : at + 16] = size.to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(FeatureFileError, match=r"a\.h5: the text of its attributes is damaged"):
        _read(path)


def test_text_that_claims_gigabytes_is_refused(tmp_path: Path):
    def put(file: h5py.File) -> None:
        file["features"] = FEATURES
        file["coords"].attrs["name"] = "s1"

    path = _write(tmp_path / "a.h5", put)
    content = bytearray(path.read_bytes())
    at = content.index(content.index(b"GCOL").to_bytes(8, "little") + b"\1\0\0\0") - 4
    assert content[at : at + 4] == b"\2\0\0\0", "the length of s1"
    content[at + 3] = 0xFF
    path.write_bytes(content)
    with pytest.raises(FeatureFileError, match=r"a\.h5: attribute name of /coords has 4,278,190,082 bytes"):
        _read(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.h5")
    with pytest.raises(
        FeatureFileError, match=r"a\.h5: cannot be read .*it is a named pipe, expected a file"
    ):
        _read(tmp_path / "a.h5")


@pytest.mark.parametrize("libver", ["earliest", "v110"])
def test_only_numbers_and_text_are_read_as_attributes(tmp_path: Path, libver: str):
    """A damaged list of varying length, or a reference, would end the process."""
    path = tmp_path / "s1.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file["coords"] = np.zeros((2, 2))
        file.attrs["unit"], file.attrs["names"], file.attrs["mpp"] = "um", ["a", "ä"], 0.5
        file.attrs["fixed"], file.attrs["is_ok"] = np.bytes_("um"), True
        lists = np.empty(1, dtype=h5py.vlen_dtype(np.int64))
        lists[0] = np.array([1, 2])
        file.attrs.create("lists", lists, dtype=lists.dtype)
        file.attrs["reference"] = file["coords"].ref
        file.attrs["pair"] = np.array((1, 2.0), dtype=[("a", "i4"), ("b", "f4")])
    with open_h5(path) as file:
        assert sorted(attributes_of(file)) == ["fixed", "is_ok", "mpp", "names", "unit"]


@pytest.mark.parametrize("address", [0, 255, 0x2A8])
def test_a_file_that_names_a_driver_is_refused(tmp_path: Path, address: int):
    """HDF5 would allocate what stands at this address as the size of the driver's settings."""
    path = tmp_path / "s1.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file["coords"] = np.zeros((2, 2))
    content = bytearray(path.read_bytes())
    assert content[8] == 0
    content[48:56] = address.to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(FeatureFileError, match=r"s1\.h5: its first bytes name a driver"), open_h5(path):
        pass


def test_a_file_with_a_user_block_or_a_newer_superblock_is_read(tmp_path: Path):
    for name, settings in (("user", {"userblock_size": 512}), ("newer", {"libver": "latest"})):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w", **settings) as file:
            file["coords"] = np.zeros((2, 2))
        with open_h5(path) as file:
            assert list(file) == ["coords"]
