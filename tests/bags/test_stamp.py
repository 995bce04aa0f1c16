"""Golden files in the layout of each version of STAMP."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from hardmil.bags.bag import Bag
from hardmil.bags.collection import notes_on
from hardmil.bags.feature_folder import read_feature_folder, read_features
from hardmil.bags.slide_table import SlideRow, SlideTable
from hardmil.errors import BagError, EmptyBagError, FeatureFileError

FEATURES = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float16)
# Column and row of tiles in their grid.
GRID = np.array([[2, 4], [3, 4], [4, 4], [2, 5]])


def stamp_2_5(path: Path, *, coords: np.ndarray | None = None, **changed: object) -> Path:
    """As `stamp preprocess` of 2.1 and later: float32 coords in um, all else as attributes of the file."""
    attributes: dict[str, object] = {
        "stamp_version": "2.5.0",
        "extractor": "uni2",
        "unit": "um",
        "tile_size_um": 256.0,
        "tile_size_px": 224,
        "code_hash": "0a1b2c3d",
        "feat_type": "tile",
    }
    with h5py.File(path, "w") as file:
        file["coords"] = (GRID * 256.0).astype(np.float32) if coords is None else coords
        file["feats"] = FEATURES
        file.attrs.update({key: value for key, value in (attributes | changed).items() if value is not None})
    return path


def stamp_2_0(path: Path) -> Path:
    """As version 2.0: one tile size, in um."""
    with h5py.File(path, "w") as file:
        file["coords"], file["feats"] = (GRID * 256.0).astype(np.float32), FEATURES
        file.attrs.update({"stamp_version": "2.0.0", "extractor": "chief-ctranspath", "unit": "um"})
        file.attrs["tile_size"] = 256.0
    return path


def stamp_1(path: Path, *, augmented: int = 0) -> Path:
    """As version 1.1.1: steps of 224, a flag for augmented tiles, and only the extractor as attribute."""
    with h5py.File(path, "w") as file:
        n = len(GRID) + augmented
        file["coords"] = np.resize(GRID * 224, (n, 2))
        file["feats"] = np.resize(FEATURES, (n, 6))
        file["augmented"] = np.repeat([False, True], [len(GRID), augmented])
        file.attrs["extractor"] = "STAMP-extract-1.1.0_xiyuewang-ctranspath-7c998680"
    return path


def read(path: Path, *, mpp: float | None = 0.5, slide: Path | None = None) -> Bag:
    return read_features(path, SlideRow("s1", "c1", None, slide, mpp), label=1)


@pytest.mark.parametrize("write", [stamp_2_5, stamp_2_0, stamp_1])
def test_micrometres_become_level_0_pixels(tmp_path: Path, write: object):
    bag = read(write(tmp_path / "s1.h5"))  # type: ignore[operator]
    np.testing.assert_array_equal(bag.coords, GRID * 512)
    assert bag.size_level0_px == 512
    assert bag.instances.dtype == np.float16
    np.testing.assert_array_equal(bag.instances, FEATURES)
    assert (bag.slide_id, bag.case_id, bag.label) == ("s1", "c1", 1)


def test_provenance_is_read_from_the_file(tmp_path: Path):
    assert read(stamp_2_5(tmp_path / "a.h5")).provenance.encoder == "uni2"
    assert read(stamp_2_5(tmp_path / "a.h5")).provenance.patch == "224 px of 256 um"
    assert read(stamp_2_0(tmp_path / "b.h5")).provenance.patch == "256 um"
    assert "ctranspath" in str(read(stamp_1(tmp_path / "c.h5")).provenance.encoder)


def test_mpp_need_not_be_a_round_number(tmp_path: Path):
    bag = read(stamp_2_5(tmp_path / "s1.h5"), mpp=0.2527)
    np.testing.assert_array_equal(bag.coords, np.rint(GRID * 256 / 0.2527))
    assert bag.size_level0_px == 1013


def test_augmented_tiles_of_version_1_are_left_out(tmp_path: Path):
    assert len(read(stamp_1(tmp_path / "s1.h5", augmented=3))) == 4


def test_without_mpp_the_coordinates_are_unknown(tmp_path: Path):
    bag = read(stamp_2_5(tmp_path / "s1.h5"), mpp=None)
    np.testing.assert_array_equal(bag.instances, FEATURES)
    assert bag.size_level0_px == 0
    assert not bag.coords.any()
    assert notes_on([bag])[0].startswith("note: the patch coordinates of s1 are unknown")
    assert "need the slide's mpp, which the column mpp can give" in notes_on([bag])[0]
    assert notes_on([read(stamp_2_5(tmp_path / "s1.h5"))]) == []


def test_mpp_may_come_from_the_slide(tmp_path: Path, phantom_slide: Path):
    path = stamp_2_5(tmp_path / "s1.h5")
    np.testing.assert_array_equal(read(path, mpp=None, slide=phantom_slide).coords, GRID * 512)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "no_mpp.png")
    assert read(path, mpp=None, slide=tmp_path / "no_mpp.png").size_level0_px == 0
    (tmp_path / "broken.svs").write_bytes(b"no slide")
    assert read(path, mpp=None, slide=tmp_path / "broken.svs").size_level0_px == 0


@pytest.mark.parametrize("kind", ["slide", "patient"])
def test_features_of_whole_slides_are_refused(tmp_path: Path, kind: str):
    with h5py.File(tmp_path / "s1.h5", "w") as file:
        file["feats"] = FEATURES[:1]
        file.attrs.update({"encoder": "titan", "feat_type": kind, "stamp_version": "2.5.0"})
    with pytest.raises(FeatureFileError, match=f"features of a {kind}; expected features of tiles"):
        read(tmp_path / "s1.h5")


def test_coords_of_unknown_unit_are_refused(tmp_path: Path):
    path = stamp_2_5(tmp_path / "s1.h5", unit=None, tile_size_um=None, coords=GRID * 100)
    with pytest.raises(FeatureFileError, match="does not state the unit of its coords"):
        read(path)
    with pytest.raises(FeatureFileError, match="its tile size is 'wide'; expected micrometres"):
        read(stamp_2_5(tmp_path / "s1.h5", tile_size_um="wide"))
    with pytest.raises(FeatureFileError, match="coords are NaN"):
        read(stamp_2_5(tmp_path / "s1.h5", coords=np.full((4, 2), np.nan)))


def test_an_empty_file_gives_an_empty_bag(tmp_path: Path):
    with h5py.File(tmp_path / "s1.h5", "w") as file:
        file["coords"], file["feats"] = np.zeros((0, 2), np.float32), np.zeros((0, 6), np.float16)
        file.attrs.update({"unit": "um", "tile_size_um": 256.0})
    with pytest.raises(EmptyBagError, match=r"slide s1: .*no patches"):
        read(tmp_path / "s1.h5")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"extractor": "virchow2"},
            "slide b has encoder virchow2, slide a has encoder uni2; expected",
        ),
        (
            {"tile_size_um": 512.0},
            "slide b has patches of 224 px of 512 um, slide a has patches of 224 px",
        ),
    ],
)
def test_files_must_have_the_same_provenance(tmp_path: Path, changed: dict[str, object], message: str):
    stamp_2_5(tmp_path / "a.h5")
    stamp_2_5(tmp_path / "b.h5", **changed)
    rows = tuple(SlideRow(name, name, label, None, 0.5) for name, label in (("a", "0"), ("b", "1")))
    with pytest.raises(BagError, match=message):
        read_feature_folder(tmp_path, SlideTable(rows=rows, classes=("0", "1")), quiet=True)
