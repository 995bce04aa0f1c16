import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import read_bag, read_coords, write_bag, write_bag_in_parts, write_coords
from hardmil.errors import BagError, EmptyBagError, FeatureFileError

COORDS = np.array([[0, 32], [64, 32], [96, 128]], dtype=np.int64)


def _bag(instances: np.ndarray | None = None, **changed: Any) -> Bag:
    features = np.arange(12, dtype=np.float32).reshape(3, 4) if instances is None else instances
    fields = {"slide_id": "s1", "case_id": "c1", "label": 1, "coords": COORDS, "size_level0_px": 32}
    return Bag(instances=features, **(fields | changed))


def _pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 27, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_written_bag_is_read_unchanged(tmp_path: Path, dtype: str):
    bag = _bag(_pixels() if dtype == "uint8" else np.array([[0.1, -2], [3, 4], [5, 6]], dtype=dtype))
    write_bag(tmp_path / "s1.h5", bag, attributes={"encoder": "resnet", "fingerprint": "abc"})
    found = read_bag(tmp_path / "s1.h5", case_id="c1", label=1)
    assert (found.slide_id, found.case_id, found.label, found.size_level0_px) == ("s1", "c1", 1, 32)
    assert found.kind == ("pixels" if dtype == "uint8" else "features")
    assert len(found) == 3
    assert found.instances.dtype == dtype
    np.testing.assert_array_equal(found.instances, bag.instances)
    np.testing.assert_array_equal(found.coords, COORDS)


def test_file_has_the_layout_of_trident(tmp_path: Path):
    attributes = {"patch_size": 16, "level0_magnification": 40, "target_magnification": 20, "encoder": "uni"}
    path = tmp_path / "features_uni" / "s1.h5"
    write_bag(path, _bag(), attributes=attributes | {"level0_width": 640, "level0_height": 480})
    with h5py.File(path) as file:
        assert sorted(file) == ["coords", "features"]
        assert dict(file["coords"].attrs) == {
            "patch_size": 16,
            "patch_size_level0": 32,
            "level0_magnification": 40,
            "target_magnification": 20,
            "overlap": 0,
            "name": "s1",
            "savetodir": "features_uni",
            "level0_width": 640,
            "level0_height": 480,
        }
        attrs = {"name": "s1", "savetodir": "features_uni", "encoder": "uni"}
        assert dict(file["features"].attrs) == attrs
        assert file["features"].chunks is None
        assert file["coords"].dtype == np.int64


def test_pixels_are_named_patches(tmp_path: Path):
    write_bag(tmp_path / "s1.h5", _bag(_pixels()), attributes={})
    with h5py.File(tmp_path / "s1.h5") as file:
        assert sorted(file) == ["coords", "patches"]
        assert file["coords"].attrs["level0_magnification"] == "None"


def test_coords_file(tmp_path: Path):
    path = tmp_path / "patches" / "s1_patches.h5"
    write_coords(
        path, COORDS, slide_id="s1", size_level0_px=64, attributes={"patch_size": 32, "config": "a1"}
    )
    found = read_coords(path)
    np.testing.assert_array_equal(found.coords, COORDS)
    assert found.size_level0_px == 64
    assert (found.attributes["name"], found.attributes["config"]) == ("s1", "a1")
    assert found.attributes["patch_size"] == 32


def test_coords_of_a_slide_without_tissue(tmp_path: Path):
    none = np.zeros((0, 2), dtype=np.int64)
    write_coords(tmp_path / "a.h5", none, slide_id="a", size_level0_px=64, attributes={})
    assert read_coords(tmp_path / "a.h5").coords.shape == (0, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"coords": COORDS[:2]},
            r"slide s1: 3 instances, but coords int64 \(2, 2\); expected int64 \(3, 2\)",
        ),
        ({"coords": COORDS.astype(np.int32)}, r"but coords int32"),
        ({"instance_slides": np.zeros(4, np.int64)}, r"3 instances, but instance_slides \(4,\)"),
        ({"label": -2}, r"slide s1: label -2; expected the position of its class"),
        ({"instances": np.zeros((3, 4), dtype=np.int64)}, r"instances are int64 \(3, 4\); expected uint8"),
        ({"instances": np.zeros((3, 4), dtype=np.uint8)}, r"instances are uint8 \(3, 4\)"),
        ({"instances": np.zeros((3, 8, 8, 4), dtype=np.uint8)}, r"instances are uint8 \(3, 8, 8, 4\)"),
        ({"instances": np.zeros((3, 2, 2), dtype=np.float32)}, r"instances are float32 \(3, 2, 2\)"),
        ({"instances": np.zeros((3, 0), dtype=np.float32)}, r"instances are float32 \(3, 0\)"),
    ],
)
def test_invalid_bags_are_refused(changed: dict[str, Any], message: str):
    with pytest.raises(BagError, match=message):
        _bag(**changed)


def test_invalid_features_are_counted_by_instance():
    features = np.ones((3, 4), dtype=np.float16)
    features[0, :2], features[2, 0] = np.nan, np.inf
    with pytest.raises(BagError, match=r"slide s1: 2 of 3 instances have .* NaN, infinite or .*in float32"):
        _bag(features)


@pytest.mark.parametrize(("value", "dtype"), [(3.4e38, np.float32), (-2e15, np.float32)])
def test_features_whose_square_is_infinite_are_refused(value: float, dtype: type):
    features = np.ones((3, 4), dtype=dtype)
    features[1, 2] = value
    with pytest.raises(BagError, match=r"slide s1: 1 of 3 instances have .* above 1e\+15; expected numbers"):
        _bag(features)


def test_large_features_that_can_be_used_are_accepted():
    for features in (np.full((3, 4), 1e15, dtype=np.float32), np.full((3, 4), 65504, dtype=np.float16)):
        np.testing.assert_array_equal(_bag(features).instances, features)


def test_empty_bag_is_refused():
    with pytest.raises(EmptyBagError, match=r"slide s1: .*no patches"):
        _bag(np.zeros((0, 4), dtype=np.float32), coords=np.zeros((0, 2), dtype=np.int64))


def test_damaged_files_are_named(tmp_path: Path):
    write_bag(tmp_path / "s1.h5", _bag(np.ones((3, 5000), dtype=np.float32)), attributes={})
    whole = (tmp_path / "s1.h5").read_bytes()
    for name, content in {"cut.h5": whole[: len(whole) // 2], "text.h5": b"no", "empty.h5": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FeatureFileError, match=rf"{name}: cannot be read.*write it again"):
            read_bag(tmp_path / name, case_id="c", label=0)
    with pytest.raises(FeatureFileError, match=r"none\.h5: there is no such file"):
        read_coords(tmp_path / "none.h5")


def test_files_with_other_content_are_refused(tmp_path: Path):
    with h5py.File(tmp_path / "stamp.h5", "w") as file:
        file["feats"], file["coords"] = np.zeros((1, 2)), np.zeros((1, 2))
    with pytest.raises(
        FeatureFileError, match=r"stamp\.h5: found coords, feats; expected datasets coords, and"
    ):
        read_bag(tmp_path / "stamp.h5", case_id="c", label=0)
    with h5py.File(tmp_path / "bare.h5", "w"):
        pass
    with pytest.raises(FeatureFileError, match=r"bare\.h5: found nothing; expected a dataset coords"):
        read_coords(tmp_path / "bare.h5")
    with h5py.File(tmp_path / "um.h5", "w") as file:
        file["features"], file["coords"] = np.zeros((2, 2)), np.array([[0.5, 1], [2, 3]])
    with pytest.raises(
        FeatureFileError, match=r"coords are float64 \(2, 2\); expected integer level-0 pixels"
    ):
        read_bag(tmp_path / "um.h5", case_id="c", label=0)


def test_a_full_disk_raises_instead_of_crashing_the_process(tmp_path: Path):
    # A limit on the size of files acts like a full disk; both would crash HDF5.
    code = f"""
import resource, numpy as np
from pathlib import Path
from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import write_bag
features, coords = np.ones((90, 30), np.float32), np.zeros((90, 2), np.int64)
bag = Bag("s1", "c1", 0, features, coords, 32)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
write_bag(Path({str(tmp_path)!r}) / "s1.h5", bag, attributes={{}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bag_that_cannot_be_written_leaves_no_file(tmp_path: Path):
    with pytest.raises(TypeError, match="no native HDF5"):
        write_bag(tmp_path / "s1.h5", _bag(), attributes={"oops": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_stops_a_bag_written_in_parts(tmp_path: Path):
    code = f"""
import resource, numpy as np
from pathlib import Path
from hardmil.bags.bag_file import write_bag_in_parts
resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))
coords = np.zeros((3000, 2), np.int64)
with write_bag_in_parts(
    Path({str(tmp_path)!r}) / "s1.h5", coords, slide_id="s1", size_level0_px=32, attributes={{}}
) as put:
    for part in range(30):
        put(np.arange(100) + 100 * part, np.ones((100, 300), np.float16))
        print(part)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert done.stdout.split() == [], "not after all 30 parts"
    assert list(tmp_path.iterdir()) == []


def test_a_bag_written_in_parts_equals_one_written_at_once(tmp_path: Path):
    coords = np.array([[5 * i, 3 * i] for i in range(9)])
    bag = _bag(np.random.default_rng(0).normal(size=(9, 4)).astype(np.float16), coords=coords)
    order = [np.array([2, 3, 6]), np.array([0]), np.array([4, 5, 7, 8]), np.array([1])]
    at = {"slide_id": "s1", "size_level0_px": bag.size_level0_px, "attributes": {"encoder": "e"}}
    with write_bag_in_parts(tmp_path / "s1.h5", bag.coords, **at) as put:
        for members in order:
            put(members, bag.instances[members])
    found = read_bag(tmp_path / "s1.h5", case_id="c", label=0)
    np.testing.assert_array_equal(found.instances, bag.instances)
    np.testing.assert_array_equal(found.coords, bag.coords)
    assert found.provenance.encoder == "e"
    with write_bag_in_parts(tmp_path / "s2.h5", bag.coords[:0], **at):
        pass
    with pytest.raises(EmptyBagError, match=r"slide s1: .*no patches"):
        read_bag(tmp_path / "s2.h5", case_id="c", label=0)


def test_an_empty_name_in_the_file_is_ignored(tmp_path: Path):
    with h5py.File(tmp_path / "s7.h5", "w") as file:
        file["features"], file["coords"] = np.ones((2, 3), np.float32), np.zeros((2, 2), np.int64)
        file["coords"].attrs["name"] = ""
    assert read_bag(tmp_path / "s7.h5", case_id="c", label=0).slide_id == "s7"
