import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.support.published import labels_of

from hardmil.config.patches import PatchConfig
from hardmil.errors import ConfigError, TableError
from hardmil.paper.datasets import published_config, read_published
from hardmil.paper.images import PublishedSet

COLON, UCSB = "CRCHistoPhenotypes_2016_04_28", "ucsb_breast"


@pytest.fixture(scope="module")
def ucsb(data_dir: Path) -> PublishedSet:
    return read_published(
        "ucsb", folder=data_dir / UCSB, split="group", config=published_config("ucsb").patches
    )


def test_ucsb(ucsb: PublishedSet):
    assert labels_of(ucsb) == (26, 32)
    assert (ucsb.classes, ucsb.mpp, ucsb.notes) == (("benign", "malignant"), None, ())
    assert all(bag.label == int("malignant" in bag.slide_id) for bag in ucsb.bags)
    sizes = [len(bag) for bag in ucsb.bags]
    assert max(sizes) <= 28 * 24
    assert np.mean(sizes) == pytest.approx(424.76, abs=0.01)
    stems = {bag.case_id for bag in ucsb.bags}
    assert len(stems) == 10
    assert "ytma55_030603" in stems


def test_ucsb_without_a_tissue_filter_has_672_patches_and_each_image_is_a_case(
    data_dir: Path, tmp_path: Path
):
    for name in ("ytma10_010704_benign1_ccd.tif", "ytma10_010704_malignant1_ccd.tif"):
        (tmp_path / name).symlink_to(data_dir / UCSB / name)
    config = PatchConfig(um_per_px=None, size_px=32, min_tissue=0.0)
    found = read_published("ucsb", folder=tmp_path, split="image", config=config)
    assert [len(bag) for bag in found.bags] == [672, 672]
    assert [bag.case_id for bag in found.bags] == [bag.slide_id for bag in found.bags]


def test_ucsb_has_no_nuclei(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"ucsb: .*no annotated nuclei"):
        read_published("ucsb", folder=tmp_path, split="image", config=PatchConfig(mode="nuclei"))


def test_ucsb_names_without_a_label(data_dir: Path, tmp_path: Path):
    shutil.copy(data_dir / UCSB / "ytma10_010704_benign1_ccd.tif", tmp_path / "ytma10_010704_other1_ccd.tif")
    with pytest.raises(TableError, match=r"other1_ccd\.tif: .*benign or malignant"):
        read_published("ucsb", folder=tmp_path, split="image", config=PatchConfig(um_per_px=None))
