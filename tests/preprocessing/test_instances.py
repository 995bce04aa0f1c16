from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from hardmil.bags.slide_table import SlideRow
from hardmil.config.patches import PatchConfig
from hardmil.config.study import InstanceConfig
from hardmil.errors import SlideError
from hardmil.preprocessing.fingerprints import SLIDE_ATTRIBUTE, slide_fingerprints
from hardmil.preprocessing.instances import encode_slide, write_instances
from hardmil.preprocessing.patch_coords import write_patch_coords

RGB = np.zeros((200, 300, 3), np.uint8)
RGB[:100], RGB[100:, 150:] = (200, 60, 120), (90, 40, 130)


def write_pyramid(path: Path, *, mpp: float | None = 0.25) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for level in (0, 1):
            step = 2**level
            known = {"resolution": (1e4 / mpp / step,) * 2, "resolutionunit": "CENTIMETER"} if mpp else {}
            tiff.write(
                RGB[::step, ::step],
                tile=(64, 64),
                photometric="rgb",
                subfiletype=level,
                metadata=None,
                **known,
            )
    return path


def row_of(path: Path, *, mpp: float | None = None) -> SlideRow:
    return SlideRow("s", "s", None, path, mpp)


def attributes_of(path: Path) -> dict[str, object]:
    with h5py.File(path) as file:
        return dict(file["coords"].attrs)


def test_the_three_sizes_are_stored(tmp_path: Path):
    """16 px at 1 um/px are 64 level-0 px at 0.25, read as 32 px of the level of 0.5."""
    row = row_of(write_pyramid(tmp_path / "s.tif"))
    config = InstanceConfig(patches=PatchConfig(size_px=16, um_per_px=1.0, min_tissue=0))
    write_instances(row, config=config, places=tmp_path / "p.h5", path=tmp_path / "s.h5")
    for path in (tmp_path / "p.h5", tmp_path / "s.h5"):
        found = attributes_of(path)
        sizes = [found[name] for name in ("patch_size", "read_level", "patch_size_read", "patch_size_level0")]
        assert sizes == [16, 1, 32, 64]
        assert (found["mpp"], found["mpp_from"]) == (pytest.approx(0.25), "file")


@pytest.mark.parametrize(
    ("table", "asked", "size", "source"), [(0.5, 1.0, 32, "table"), (None, 1.0, 16, "--mpp")]
)
def test_who_said_the_resolution_is_stored(tmp_path: Path, table, asked, size, source):
    row = row_of(write_pyramid(tmp_path / "s.tif", mpp=None), mpp=table)
    config = PatchConfig(size_px=16, um_per_px=1.0, min_tissue=0, mpp=asked)
    write_patch_coords(row, config=config, path=tmp_path / "p.h5")
    found = attributes_of(tmp_path / "p.h5")
    assert (found["patch_size_level0"], found["mpp_from"]) == (size, source)


def test_prediction_takes_what_was_said_of_its_own_slides(tmp_path: Path):
    """A bundle's `mpp` was said of the slides it was trained on."""
    row = row_of(write_pyramid(tmp_path / "s.tif", mpp=None))
    config = PatchConfig(size_px=16, um_per_px=1.0, min_tissue=0, mpp=0.25)
    assert encode_slide(row, config=config, label=-1, mpp=0.5).size_level0_px == 32
    with pytest.raises(SlideError, match="does not state its micrometres per pixel"):
        encode_slide(row, config=config, label=-1)


def test_what_changes_pixels_changes_what_a_file_was_made_of(tmp_path: Path):
    row = row_of(write_pyramid(tmp_path / "s.tif"))
    made = [
        slide_fingerprints(row, config=PatchConfig(**settings))
        for settings in ({}, {"icc": True}, {"mpp": 0.5}, {"mpp_from_power": True})
    ]
    assert len({str(one) for one in made}) == 4


def test_a_folder_that_gains_an_instance_is_another_slide(tmp_path: Path):
    (tmp_path / "slide").mkdir()
    (tmp_path / "slide" / "a.dcm").write_bytes(b"1234")
    before = slide_fingerprints(row_of(tmp_path / "slide"), config=PatchConfig())[SLIDE_ATTRIBUTE]
    (tmp_path / "slide" / "b.dcm").write_bytes(b"12")
    after = slide_fingerprints(row_of(tmp_path / "slide"), config=PatchConfig())[SLIDE_ATTRIBUTE]
    assert before.startswith("4 bytes")
    assert after.startswith("6 bytes")
