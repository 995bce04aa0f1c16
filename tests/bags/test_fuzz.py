"""Any file gives a bag or an error of hardmil, and never another exception."""

import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import Coords, read_bag, read_coords
from hardmil.bags.feature_folder import read_features
from hardmil.bags.slide_table import SlideRow, SlideTable, read_slide_table
from hardmil.errors import HardmilError

Result = TypeVar("Result")
FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
ROW = SlideRow("s1", "c1", None, None, 0.5)
DTYPES = st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?", "c8", "S3"])
ARRAYS = DTYPES.flatmap(
    lambda dtype: of_numpy.arrays(
        dtype, of_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    )
)
COORDS = st.one_of(ARRAYS, of_numpy.arrays("i8", st.tuples(st.integers(0, 4), st.just(2))))
FEATURES = st.one_of(ARRAYS, of_numpy.arrays("f4", st.tuples(st.integers(0, 4), st.integers(0, 3))))
VALUES = st.one_of(
    st.text(alphabet="None0x um", max_size=5),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.booleans(),
    ARRAYS.filter(lambda array: array.dtype.kind in "iuf"),
)
KEYS = (
    "patch_size patch_size_level0 patch_level downsample level0_width level0_height name unit tile_size "
    "tile_size_um tile_size_px feat_type extractor encoder"
)
ATTRIBUTES = st.dictionaries(st.sampled_from(KEYS.split()), VALUES)
FILES = st.dictionaries(st.sampled_from(["features", "feats", "patches", "augmented", "other"]), FEATURES)


def outcome_of(read: Callable[[], Result], *, naming: Path) -> Result | None:
    """The result of reading; None after an error of hardmil, which must name the file or the slide."""
    try:
        return read()
    except HardmilError as error:
        said = str(error)
        assert naming.name in said or ROW.slide_id in said, said
        assert "Traceback" not in said
        return None


def check_bag(bag: Bag | None) -> None:
    """Check what holds for every bag that was read from a file."""
    if bag is None:
        return
    n = len(bag.instances)
    assert n > 0
    assert bag.kind in ("pixels", "features")
    assert (bag.coords.shape, bag.coords.dtype) == ((n, 2), np.int64)
    assert bag.size_level0_px >= 0
    if bag.kind == "features":
        assert bag.instances.ndim == 2
        assert bag.instances.shape[1] > 0
        assert np.isfinite(bag.instances).all()
    else:
        assert bag.instances.ndim == 4
        assert (bag.instances.dtype, bag.instances.shape[3]) == (np.uint8, 3)


def check_coords(found: Coords | None) -> None:
    if found is not None:
        assert (found.coords.dtype, found.coords.shape[1:]) == (np.int64, (2,))
        assert found.size_level0_px >= 0


def check_table(found: SlideTable | None, *, required: bool) -> None:
    if found is None:
        return
    names = [row.slide_id for row in found.rows]
    assert names
    assert len(set(names)) == len(names)
    for row in found.rows:
        assert row.slide_id == row.slide_id.strip() != ""
        assert row.case_id
        assert row.mpp is None or 0 < row.mpp < float("inf")
        assert row.label in (*found.classes, *(() if required else (None,)))
        assert row.path is not None or not required


def h5_content(
    parts: dict[str, np.ndarray], coords: np.ndarray | None, *all_attributes: dict[str, Any]
) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, value in parts.items():
            file[name] = value
        if coords is not None:
            file["coords"] = coords
        for where, attributes in zip(
            (file, file.get("coords"), file.get("features")), all_attributes, strict=True
        ):
            if where is not None:
                where.attrs.update(attributes)
    return content.getvalue()


def read_all(content: bytes, suffix: str) -> Bag | None:
    """The bag that `read_features` returns for the content, if any; all readers' results are checked."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"s1{suffix}"
        path.write_bytes(content)
        bag = outcome_of(lambda: read_features(path, ROW, label=1), naming=path)
        check_bag(bag)
        if suffix == ".h5":
            check_bag(outcome_of(lambda: read_bag(path, case_id="c1", label=0, slide_id="s1"), naming=path))
            check_coords(outcome_of(lambda: read_coords(path), naming=path))
        return bag


@FEW
@given(FILES, st.none() | COORDS, ATTRIBUTES, ATTRIBUTES, ATTRIBUTES)
def test_h5_files_with_any_datasets_and_attributes(
    parts: dict[str, np.ndarray],
    coords: np.ndarray | None,
    on_file: dict[str, Any],
    on_coords: dict[str, Any],
    on_features: dict[str, Any],
):
    bag = read_all(h5_content(parts, coords, on_file, on_coords, on_features), ".h5")
    assert bag is None or bag.instances.size in {array.size for array in parts.values()}, "one dataset"


@FEW
@given(st.binary(max_size=200), st.sampled_from([".h5", ".pt"]))
def test_files_with_any_bytes(content: bytes, suffix: str):
    assert read_all(content, suffix) is None, "no bag is in 200 bytes"


@FEW
@given(st.data(), st.sampled_from([".h5", ".pt"]))
def test_valid_files_with_changed_or_missing_bytes(data: st.DataObject, suffix: str):
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    if suffix == ".h5":
        content = bytearray(h5_content({"features": features}, np.zeros((4, 2), np.int64), {}, {}, {}))
    else:
        stream = io.BytesIO()
        torch.save({"features": torch.from_numpy(features)}, stream)
        content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    bag = read_all(bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))]), suffix)
    assert bag is None or (bag.slide_id, bag.label) == (ROW.slide_id, 1), "of the slide that was asked for"


PT_LEAVES = st.one_of(FEATURES.filter(lambda a: a.dtype.kind in "iuf?"), st.integers(), st.text(), st.none())


@FEW
@given(st.recursive(PT_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner)))
def test_pt_files_with_any_content(content: Any):
    stream = io.BytesIO()
    torch.save(content, stream)
    bag = read_all(stream.getvalue(), ".pt")
    assert bag is None or (bag.slide_id, bag.label) == (ROW.slide_id, 1), "of the slide that was asked for"


CELLS = st.text(alphabet='ab0.,;"\t\n /é-nN', max_size=6)


@settings(FEW, max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=4).map(
            lambda lines: ("slide_id,case_id,label,path,mpp\n" + "\n".join(map(",".join, lines))).encode()
        ),
    ),
    st.booleans(),
)
def test_slide_tables_with_any_content(content: bytes, required: bool):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slides.csv"
        path.write_bytes(content)
        read = partial(read_slide_table, path, labels_required=required, paths_required=required)
        check_table(outcome_of(read, naming=path), required=required)
