from pathlib import Path

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.patches import PatchConfig
from hardmil.errors import ConfigError, FeatureFileError
from hardmil.files.h5 import write_h5
from hardmil.paper.datasets import read_published
from hardmil.paper.images import PublishedSet
from hardmil.paper.packed import write_packed
from hardmil.slides.color import equalise

CONFIG = PatchConfig(size_px=8, um_per_px=None, equalise="none", mode="nuclei")


def _bag(number: int, *, case: str) -> Bag:
    rng = np.random.default_rng(number)
    n = 3 + 4 * number
    pixels = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return Bag(f"img{number}", case, number % 2, pixels, rng.integers(-9, 99, (n, 2)), 8)


def _set(split: str) -> PublishedSet:
    bags = [_bag(i, case=f"img{i}" if split == "image" else f"group-{i // 2}") for i in range(4)]
    truth = {bag.slide_id: (np.arange(len(bag)) % 3).astype(np.int8) for bag in bags[:3]}
    return PublishedSet(bags, ("normal", "epithelial"), ("a note",), {"img0": Path("img0.bmp")}, 0.55, truth)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "colon-nuclei.h5"
    write_packed(path, {split: _set(split) for split in ("image", "group")}, name="colon", config=CONFIG)
    return path


@pytest.mark.parametrize("split", ["image", "group"])
@pytest.mark.parametrize("mode", ["none", "image", "channel"])
def test_what_was_packed_comes_back(packed: Path, split: str, mode: str):
    config = CONFIG.model_copy(update={"equalise": mode})
    found, expected = read_published("colon", folder=packed, split=split, config=config), _set(split)
    assert (found.classes, found.notes, found.mpp) == (expected.classes, expected.notes, expected.mpp)
    assert found.paths == {}
    for bag, other in zip(found.bags, expected.bags, strict=True):
        assert (bag.slide_id, bag.case_id, bag.label) == (other.slide_id, other.case_id, other.label)
        assert bag.size_level0_px == other.size_level0_px
        np.testing.assert_array_equal(bag.instances, equalise(other.instances, mode=config.equalise))
        np.testing.assert_array_equal(bag.coords, other.coords)
    assert found.truth.keys() == expected.truth.keys()
    for slide_id, codes in expected.truth.items():
        np.testing.assert_array_equal(found.truth[slide_id], codes)


def test_another_set_or_other_patches_are_an_error(packed: Path):
    with pytest.raises(ConfigError, match="holds colon with patches"):
        read_published(
            "ucsb", folder=packed, split="image", config=CONFIG.model_copy(update={"mode": "grid"})
        )
    with pytest.raises(ConfigError, match="pack it again"):
        read_published("colon", folder=packed, split="image", config=CONFIG.model_copy(update={"size_px": 9}))


def test_another_file_is_an_error(tmp_path: Path):
    path = tmp_path / "other.h5"
    with write_h5(path) as file:
        file["coords"] = np.zeros((2, 2), np.int64)
    with pytest.raises(FeatureFileError, match="not a packed set"):
        read_published("colon", folder=path, split="image", config=CONFIG)
