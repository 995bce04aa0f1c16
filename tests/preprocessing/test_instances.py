from pathlib import Path

import pytest
from tests.support.pyramids import attributes_of, row_of, write_pyramid

from hardmil.config.patches import PatchConfig
from hardmil.config.study import InstanceConfig
from hardmil.errors import SlideError
from hardmil.preprocessing.instances import encode_slide, write_instances


def test_the_three_sizes_are_stored(tmp_path: Path):
    """16 px at 1 um/px are 64 level-0 px at 0.25, read as 32 px of the level of 0.5."""
    row = row_of(write_pyramid(tmp_path / "s.tif"))
    config = InstanceConfig(patches=PatchConfig(size_px=16, um_per_px=1.0, min_tissue=0))
    write_instances(row, config=config, coords_path=tmp_path / "p.h5", path=tmp_path / "s.h5")
    for path in (tmp_path / "p.h5", tmp_path / "s.h5"):
        found = attributes_of(path)
        sizes = [found[name] for name in ("patch_size", "read_level", "patch_size_read", "patch_size_level0")]
        assert sizes == [16, 1, 32, 64]
        assert (found["mpp"], found["mpp_from"]) == (pytest.approx(0.25), "file")


def test_prediction_uses_the_mpp_of_its_own_slides(tmp_path: Path):
    """A bundle's `mpp` was said of the slides it was trained on."""
    row = row_of(write_pyramid(tmp_path / "s.tif", mpp=None))
    config = PatchConfig(size_px=16, um_per_px=1.0, min_tissue=0, mpp=0.25)
    assert encode_slide(row, config=config, label=-1, mpp=0.5).size_level0_px == 32
    with pytest.raises(SlideError, match="does not state its micrometres per pixel"):
        encode_slide(row, config=config, label=-1)
