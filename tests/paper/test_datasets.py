from pathlib import Path

import pytest
from tests.support.published import write_synthetic_colon

from hardmil.config.patches import PatchConfig
from hardmil.errors import TableError
from hardmil.paper.datasets import published_config, read_published

COLON, UCSB = "CRCHistoPhenotypes_2016_04_28", "ucsb_breast"

CONFIG = PatchConfig(um_per_px=None, size_px=27)


def test_settings_are_the_papers():
    colon, ucsb = published_config("colon"), published_config("ucsb")
    assert (colon.training.epochs, colon.training.lr, colon.training.weight_decay) == (120, 5e-5, 5e-4)
    assert (ucsb.training.epochs, ucsb.training.lr, ucsb.training.weight_decay) == (300, 5e-6, 1e-4)
    assert (colon.patches.size_px, ucsb.patches.size_px) == (27, 32)
    for config in (colon, ucsb):
        assert (config.patches.mode, config.patches.um_per_px) == ("grid", None)
        assert (config.patches.tissue_rule, config.patches.min_tissue) == ("s-or-v", 0.25)
        assert (config.pooling.lam, config.training.bags_per_step) == (2, 1)


def test_settings_for_an_encoder_are_larger_patches_and_the_defaults_of_features():
    colon = published_config("colon", encode="efficientnet-lite0")
    assert (colon.encode, colon.encode_px) == ("efficientnet-lite0", 112)
    assert (colon.patches.size_px, colon.patches.overlap_px, colon.patches.equalise) == (64, 16, "none")
    ucsb = published_config("ucsb", encode="efficientnet-lite0")
    assert (ucsb.patches.size_px, ucsb.encode_px, ucsb.training.epochs) == (112, 224, None)


def test_the_set_may_lie_one_folder_down(tmp_path: Path):
    write_synthetic_colon(tmp_path / "somewhere")
    found = read_published("colon", folder=tmp_path, split="image", config=CONFIG)
    assert [(bag.slide_id, bag.case_id, bag.label) for bag in found.bags] == [
        ("img1", "img1", 1),
        ("img2", "img2", 0),
    ]


def test_folders_without_the_set(tmp_path: Path):
    (tmp_path / "empty" / "below").mkdir(parents=True)
    for name, what in (("colon", "the colon set"), ("ucsb", "the UCSB breast set")):
        with pytest.raises(TableError, match=rf"none: no such folder; expected {what}.*--data"):
            read_published(name, folder=tmp_path / "none", split="image", config=CONFIG)
        with pytest.raises(
            TableError, match=rf"empty: no .* in it; expected {what}.* in its original layout"
        ):
            read_published(name, folder=tmp_path / "empty", split="image", config=CONFIG)
    (tmp_path / "empty" / "Classification").mkdir()
    with pytest.raises(TableError, match=r"no Classification/imgN/imgN\.bmp; expected the colon set"):
        read_published("colon", folder=tmp_path / "empty", split="image", config=CONFIG)
