from pathlib import Path

import pytest
from tests.support.pyramids import attributes_of, row_of, write_pyramid

from hardmil.config.patches import PatchConfig
from hardmil.preprocessing.patch_coords import write_patch_coords


@pytest.mark.parametrize(
    ("table", "option", "size", "source"), [(0.5, 1.0, 32, "table"), (None, 1.0, 16, "--mpp")]
)
def test_the_source_of_the_resolution_is_stored(tmp_path: Path, table, option, size, source):
    row = row_of(write_pyramid(tmp_path / "s.tif", mpp=None), mpp=table)
    config = PatchConfig(size_px=16, um_per_px=1.0, min_tissue=0, mpp=option)
    write_patch_coords(row, config=config, path=tmp_path / "p.h5")
    found = attributes_of(tmp_path / "p.h5")
    assert (found["patch_size_level0"], found["mpp_from"]) == (size, source)
