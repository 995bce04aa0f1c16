"""Golden files with the keys and dtypes of TRIDENT's `save_h5` and CLAM's `save_hdf5`."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from hardmil.bags.bag import Bag
from hardmil.bags.collection import check_same_instances
from hardmil.bags.feature_folder import find_feature_file, grid_step, read_feature_folder, read_features
from hardmil.bags.slide_table import SlideRow, SlideTable
from hardmil.errors import BagError, EmptyBagError, FeatureFileError

FEATURES = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
COORDS = np.array([[512, 1024], [1024, 1024], [1536, 1024], [512, 1536]])
TRIDENT_ATTRIBUTES = {
    "patch_size": 256,
    "patch_size_level0": 512,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "name": "s1",
    "savetodir": "./trident_processed/20x_256px_0px_overlap",
    "level0_width": 30000,
    "level0_height": 20000,
}


def _trident(path: Path, features: np.ndarray, coords: np.ndarray) -> Path:
    """One chunk per row, resizable; an unknown encoder is the string None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in {"features": features, "coords": coords}.items():
            growable = {"chunks": (1, *value.shape[1:]), "maxshape": (None, *value.shape[1:])}
            file.create_dataset(name, data=value, **growable)
        file["coords"].attrs.update(TRIDENT_ATTRIBUTES)
        file["features"].attrs.update({"name": "s1", "savetodir": "features_uni_v1", "encoder": "None"})
    return path


def _clam(path: Path, features: np.ndarray, coords: np.ndarray) -> Path:
    """Batches appended, 32 rows per chunk, int32 coords, no attributes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in {"features": features, "coords": coords.astype(np.int32)}.items():
            shape = {"shape": (2, *value.shape[1:]), "maxshape": (None, *value.shape[1:])}
            rows = file.create_dataset(name, chunks=(32, *value.shape[1:]), dtype=value.dtype, **shape)
            rows[:] = value[:2]
            rows.resize(len(value), axis=0)
            rows[2:] = value[2:]
    return path


def _read(path: Path) -> Bag:
    return read_features(path, SlideRow("s1", "c1", None, None, None), label=1)


@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_trident(tmp_path: Path, squeeze: bool, dtype: str):
    features = (FEATURES[None] if squeeze else FEATURES).astype(dtype)
    bag = _read(_trident(tmp_path / "s1.h5", features, COORDS[None] if squeeze else COORDS))
    assert (bag.slide_id, bag.case_id, bag.label, bag.size_level0_px) == ("s1", "c1", 1, 512)
    assert bag.instances.dtype == ("float16" if dtype == "float16" else "float32")
    np.testing.assert_array_equal(bag.instances, FEATURES.astype(bag.instances.dtype))
    np.testing.assert_array_equal(bag.coords, COORDS)


@pytest.mark.parametrize("empty", [np.empty((0,), np.float32), np.empty((0, 1536), np.float32)])
def test_trident_slide_without_tissue(tmp_path: Path, empty: np.ndarray):
    path = _trident_empty(tmp_path / "s1.h5", empty)
    with pytest.raises(EmptyBagError, match=r"slide s1: .*no patches"):
        _read(path)


def _trident_empty(path: Path, features: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, np.empty((0, 2), dtype=np.int64)
        file["coords"].attrs.update(TRIDENT_ATTRIBUTES)
    return path


def test_clam_h5_has_the_step_of_its_grid_as_patch_size(tmp_path: Path):
    bag = _read(_clam(tmp_path / "h5_files" / "s1.h5", FEATURES, COORDS))
    np.testing.assert_array_equal(bag.instances, FEATURES)
    np.testing.assert_array_equal(bag.coords, COORDS)
    assert bag.size_level0_px == 512


def test_clam_patch_size_is_converted_from_its_level(tmp_path: Path):
    path = _clam(tmp_path / "s1.h5", FEATURES, COORDS)
    with h5py.File(path, "a") as file:
        level = {"patch_size": 256, "patch_level": 1, "downsample": (4.0, 4.0), "level_dim": (9, 7)}
        file["coords"].attrs.update(level | {"name": "s1", "save_path": "patches"})
    assert _read(path).size_level0_px == 1024


def test_grid_step_ignores_the_distance_between_two_grids():
    one = [[x, y] for y in (0, 256) for x in (0, 256, 512)]
    other = [[x + 7, y + 256] for y in (0, 256) for x in (0, 256, 512)]
    assert grid_step(np.array(one + other, dtype=np.int64)) != 7
    assert grid_step(np.array(one, dtype=np.int64)) == 256
    assert grid_step(np.array([[5, 0], [5, 256]], dtype=np.int64)) == 0


@pytest.mark.parametrize(
    "content",
    [
        torch.from_numpy(FEATURES),
        torch.from_numpy(FEATURES)[None],
        torch.from_numpy(FEATURES).double(),
        {"features": torch.from_numpy(FEATURES), "name": "s1"},
        {"feats": torch.from_numpy(FEATURES)},
        {"features": torch.from_numpy(FEATURES), "coords": COORDS, "size": np.int64(256)},
        {"features": FEATURES, "mask": np.zeros(4, bool), "names": np.array(["a", "b"])},
        torch.from_numpy(FEATURES).to_sparse(),
        {"features": torch.from_numpy(FEATURES).to_sparse()},
        FEATURES,  # TRIDENT's `saveas="pt"` saves the array
    ],
)
def test_pt(tmp_path: Path, content: Any):
    torch.save(content, tmp_path / "s1.pt")
    bag = _read(tmp_path / "s1.pt")
    assert bag.instances.dtype == np.float32
    np.testing.assert_array_equal(bag.instances, FEATURES)
    assert bag.size_level0_px == 0
    assert bag.coords.tolist() == [[0, 0]] * 4


def test_pt_in_bfloat16(tmp_path: Path):
    torch.save(torch.from_numpy(FEATURES).bfloat16(), tmp_path / "s1.pt")
    np.testing.assert_allclose(_read(tmp_path / "s1.pt").instances, FEATURES, rtol=0.01)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("evil-was-here"),))


def test_no_code_in_a_pt_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save(_Evil(), "s1.pt")
    with pytest.raises(FeatureFileError, match=r"s1\.pt: cannot be read"):
        _read(Path("s1.pt"))
    assert [path.name for path in tmp_path.iterdir()] == ["s1.pt"]


def test_objects_in_a_pt_are_named_without_the_advice_to_run_their_code(tmp_path: Path):
    torch.save({"features": FEATURES, "args": Namespace(lr=1)}, tmp_path / "s1.pt")
    with pytest.raises(FeatureFileError, match=r"it holds argparse\.Namespace, which is not loaded") as found:
        _read(tmp_path / "s1.pt")
    assert "weights_only" not in str(found.value)
    torch.save(torch.empty(4, 6, device="meta"), tmp_path / "s2.pt")
    with pytest.raises(FeatureFileError, match=r"s2\.pt: its tensor has no values"):
        _read(tmp_path / "s2.pt")


def test_pt_with_other_content_is_refused(tmp_path: Path):
    torch.save({"model": torch.zeros(2), "epoch": 3}, tmp_path / "s1.pt")
    with pytest.raises(FeatureFileError, match=r"holds a dict of model, epoch; expected a tensor, or a dict"):
        _read(tmp_path / "s1.pt")
    torch.save([1, 2], tmp_path / "s2.pt")
    with pytest.raises(FeatureFileError, match="holds list; expected a tensor"):
        _read(tmp_path / "s2.pt")


@pytest.mark.parametrize("content", [b"", b"not a file of torch", b"PK\x03\x04 cut short"])
def test_damaged_pt(tmp_path: Path, content: bytes):
    (tmp_path / "s1.pt").write_bytes(content)
    with pytest.raises(FeatureFileError, match=r"s1\.pt: cannot be read .*write the file again"):
        _read(tmp_path / "s1.pt")


def test_an_h5_takes_precedence_over_a_pt(tmp_path: Path):
    for folder in ("pt_files", "h5_files"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pt_files" / "a.b.pt").touch()
    assert find_feature_file(tmp_path, slide_id="a.b") == tmp_path / "pt_files" / "a.b.pt"
    (tmp_path / "h5_files" / "a.b.h5").touch()
    assert find_feature_file(tmp_path, slide_id="a.b") == tmp_path / "h5_files" / "a.b.h5"
    (tmp_path / "a.b.h5").touch()
    assert find_feature_file(tmp_path, slide_id="a.b") == tmp_path / "a.b.h5"
    with pytest.raises(
        FeatureFileError, match=r"slide a: no feature file in .*expected a\.h5, h5_files/a\.h5"
    ):
        find_feature_file(tmp_path, slide_id="a")


def _table(*slide_ids: str) -> SlideTable:
    rows = [SlideRow(s, f"case-{s}", "01"[i % 2], None, None) for i, s in enumerate(slide_ids)]
    return SlideTable(rows=tuple(rows), classes=("0", "1"))


def test_a_bad_file_does_not_stop_the_others(tmp_path: Path):
    _trident(tmp_path / "good.h5", FEATURES, COORDS)
    (tmp_path / "bad.h5").write_bytes(b"x")
    torch.save(torch.from_numpy(FEATURES), tmp_path / "tensor.pt")
    _trident_empty(tmp_path / "blank.h5", np.empty((0, 6), np.float32))
    found = read_feature_folder(tmp_path, _table("good", "tensor", "bad", "none", "blank"), quiet=True)
    bags = found.bags.values()
    assert found.empty == ("blank",), "no patch is no failure"
    assert [(bag.slide_id, bag.case_id, bag.label) for bag in bags] == [
        ("good", "case-good", 0),
        ("tensor", "case-tensor", 1),
    ]
    assert [failure.name for failure in found.failures] == ["bad", "none"]
    assert "no feature file" in found.failures[1].message


def test_bags_must_have_one_kind_and_shape(tmp_path: Path):
    _trident(tmp_path / "a.h5", FEATURES, COORDS)
    _trident(tmp_path / "b.h5", FEATURES[:, :5], COORDS)
    with pytest.raises(
        BagError, match="slide b has features of 5, slide a has features of 6; expected the same"
    ):
        read_feature_folder(tmp_path, _table("a", "b"), quiet=True)
    pixels = Bag("p", "p", 0, np.zeros((4, 20, 30, 3), np.uint8), COORDS, 32)
    vectors = Bag("v", "v", 0, FEATURES, COORDS, 32)
    with pytest.raises(BagError, match="slide v has features of 6, slide p has patches of 30 x 20 px"):
        check_same_instances([pixels, vectors])
    check_same_instances([])


@pytest.mark.parametrize(
    ("on_coords", "encoder", "message"),
    [
        ({}, "uni_v2", "slide b has encoder uni_v2, slide a has encoder uni_v1; expected the same in all"),
        (
            {"patch_size": 512},
            "uni_v1",
            "slide b has patches of 512 px at 20x, slide a has patches of 256",
        ),
        (
            {"target_magnification": 10},
            "uni_v1",
            "slide b has patches of 256 px at 10x, slide a has",
        ),
    ],
)
def test_files_of_another_encoder_or_other_patches_are_refused(
    tmp_path: Path, on_coords: dict[str, Any], encoder: str, message: str
):
    for name, coords_attributes, encoder_name in (("a", {}, "uni_v1"), ("b", on_coords, encoder)):
        path = _trident(tmp_path / f"{name}.h5", FEATURES, COORDS)
        with h5py.File(path, "a") as file:
            file["coords"].attrs.update(coords_attributes)
            file["features"].attrs["encoder"] = encoder_name
    with pytest.raises(BagError, match=message):
        read_feature_folder(tmp_path, _table("a", "b"), quiet=True)


def test_unknown_provenance_matches_any(tmp_path: Path):
    _clam(tmp_path / "a.h5", FEATURES, COORDS)
    _trident(tmp_path / "b.h5", FEATURES, COORDS)
    torch.save(torch.from_numpy(FEATURES), tmp_path / "c.pt")
    found = read_feature_folder(tmp_path, _table("a", "b", "c"), quiet=True)
    assert len(found.bags) == 3
    assert [bag.provenance.patch for bag in found.bags.values()] == [None, "256 px at 20x", None]


def test_coords_outside_the_slide_are_refused(tmp_path: Path):
    beyond = COORDS + np.array([28900, 0])
    with pytest.raises(
        FeatureFileError,
        match=r"1 of 4 patches .*outside the slide, first \(30436, 1024\); .*30000 x ",
    ):
        _read(_trident(tmp_path / "s1.h5", FEATURES, beyond))
    with pytest.raises(FeatureFileError, match=r"first \(-1, 1024\)"):
        _read(_trident(tmp_path / "s2.h5", FEATURES, COORDS - np.array([513, 0])))


@pytest.mark.parametrize("size", [np.array([512]), np.array([512, 512]), np.array(512.0)])
def test_a_patch_size_in_an_array_is_read(tmp_path: Path, size: np.ndarray):
    path = _trident(tmp_path / "s1.h5", FEATURES, COORDS)
    with h5py.File(path, "a") as file:
        file["coords"].attrs["patch_size_level0"] = size
    assert _read(path).size_level0_px == 512
    with h5py.File(path, "a") as file:
        file["coords"].attrs["patch_size_level0"] = np.array([512, 256])
    with pytest.raises(FeatureFileError, match=r"its patch size is array\(\[512, 256\]\); expected a number"):
        _read(path)


def test_a_file_in_use_is_not_called_damaged(tmp_path: Path):
    path = _trident(tmp_path / "s1.h5", FEATURES, COORDS)
    code = "import sys; from pathlib import Path; from hardmil.files.h5 import open_h5\n"
    code += "with open_h5(Path(sys.argv[1])): pass"
    with h5py.File(path, "a"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
        )
    assert f"{path}: is in use: another program has locked it; wait" in done.stderr
    (tmp_path / "s2.h5").write_bytes(path.read_bytes()[:200])
    with pytest.raises(
        FeatureFileError, match=r"s2\.h5: cannot be read .*expected a complete HDF5 file"
    ) as found:
        _read(tmp_path / "s2.h5")
    assert "delete" not in str(found.value)


def test_a_patch_size_that_is_not_a_number_is_refused(tmp_path: Path):
    path = _trident(tmp_path / "s1.h5", FEATURES, COORDS)
    with h5py.File(path, "a") as file:
        file["coords"].attrs["patch_size_level0"] = "large"
    with pytest.raises(FeatureFileError, match="its patch size is 'large'; expected a number"):
        _read(path)


def test_clam_patch_size_of_a_level_of_unknown_downsample_is_the_step_of_the_grid(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = np.ones((3, 4), np.float32)
        file["coords"] = np.array([[0, 0], [1024, 0], [2048, 0]])
        file["coords"].attrs.update({"patch_size": 256, "patch_level": 1})
    assert read_features(tmp_path / "a.h5", SlideRow("a", "a"), label=0).size_level0_px == 1024


def test_a_file_is_found_whether_its_letters_are_composed_or_not(tmp_path: Path):
    (tmp_path / "Mu\u0308ller.h5").touch()
    assert find_feature_file(tmp_path, slide_id="M\u00fcller").samefile(tmp_path / "Mu\u0308ller.h5")
