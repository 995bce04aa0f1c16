from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from tests.support.pyramids import attributes_of, row_of, write_pyramid
from tests.support.scanned_area import ORIGIN, TUMOUR, write_scn

from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.errors import SlideError
from hardmil.files.geojson import Region, read_regions, square, write_regions
from hardmil.preprocessing.patch_coords import patch_slide, write_patch_coords


@pytest.mark.parametrize(
    ("table", "option", "size", "source"), [(0.5, 1.0, 32, "table"), (None, 1.0, 16, "--mpp")]
)
def test_the_source_of_the_resolution_is_stored(tmp_path: Path, table, option, size, source):
    row = row_of(write_pyramid(tmp_path / "s.tif", mpp=None), mpp=table)
    config = PatchConfig(size_px=16, um_per_px=1.0, min_tissue=0, mpp=option)
    write_patch_coords(row, config=config, path=tmp_path / "p.h5")
    found = attributes_of(tmp_path / "p.h5")
    assert (found["patch_size_level0"], found["mpp_from"]) == (size, source)


def test_annotations_and_outlines_are_in_the_coordinates_of_qupath(tmp_path: Path):
    """QuPath shows the scanned area alone; patch coordinates start at the corner of level 0."""
    annotations = tmp_path / "drawn in qupath.geojson"
    write_regions(annotations, [Region(square(*TUMOUR, 128), "tumour")])
    row = replace(row_of(write_scn(tmp_path / "s.scn")), annotations=annotations)
    config = PatchConfig(tissue=TissueConfig(keep=("tumour",)), min_tissue=0.9)
    write_patch_coords(row, config=config, path=tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5") as file:
        coords = file["coords"][:]
    corner = [ORIGIN[0] + TUMOUR[0], ORIGIN[1] + TUMOUR[1]]
    assert len(coords) >= 9
    # The mask has pixels of 16 px.
    assert (coords >= [edge - 16 for edge in corner]).all()
    assert (coords + 32 <= [edge + 128 + 16 for edge in corner]).all()
    (outline,) = read_regions(tmp_path / "tissue" / "s.geojson")
    assert outline.polygon.min(axis=0) == pytest.approx(TUMOUR, abs=16)
    assert outline.polygon.max(axis=0) == pytest.approx([edge + 128 for edge in TUMOUR], abs=16)


def test_resolution_and_places_are_checked_before_the_tissue_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hardmil.preprocessing.patch_coords.segment_tissue", None)
    row = row_of(write_pyramid(tmp_path / "s.tif", mpp=None))
    with pytest.raises(SlideError, match=r"the table of slides says 46 um/px; expected 0\.05 to 10"):
        patch_slide(replace(row, mpp=46.0))
    monkeypatch.setattr("hardmil.slides.grid.MAX_PLACES", 10)
    with pytest.raises(
        SlideError, match=r"places for patches of 2 level-0 px .*; expected at most 10; check the mpp"
    ):
        patch_slide(replace(row, mpp=8.0), config=PatchConfig(max_enlargement=20))
