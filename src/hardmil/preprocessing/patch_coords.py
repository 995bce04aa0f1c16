"""Where the patches of a slide are: found once, written next to its tissue mask."""

import json
from pathlib import Path

from hardmil.bags.bag_file import Coords, read_coords, write_coords
from hardmil.bags.slide_table import SlideRow
from hardmil.config.patches import PatchConfig
from hardmil.errors import SlideError
from hardmil.files.geojson import read_regions
from hardmil.preprocessing.fingerprints import current_coords, slide_fingerprints
from hardmil.slides.grid import PatchGrid, check_places, place_patches
from hardmil.slides.notes import few_patches_note, slide_notes
from hardmil.slides.reader import open_slide
from hardmil.slides.reading import reading_level
from hardmil.slides.resolution import UM_PER_PX_AT_1X, study_resolution
from hardmil.slides.slide import Slide
from hardmil.slides.tissue import DEFAULT_PATCHES, TissueMask, segment_tissue
from hardmil.slides.tissue_files import draw_tissue, write_tissue

NOTES = "hardmil_notes"
"""Attribute of `coords`: notes about the slide, a JSON list."""


def patch_slide(row: SlideRow, *, config: PatchConfig = DEFAULT_PATCHES) -> PatchGrid:
    """Where the patches of a slide are; writes nothing. There may be none.

    Args:
        row: The slide; its own mpp is used before the file's.
        config: Tissue, size and resolution of patches.

    Raises:
        SlideError: If the slide cannot be read.
        TableError: If its annotations cannot be read.
    """
    with open_slide_of_row(row) as slide:
        _, grid = segment_and_place(slide, row, config=config)
        return grid


def segment_and_place(slide: Slide, row: SlideRow, *, config: PatchConfig) -> tuple[TissueMask, PatchGrid]:
    """The tissue of the open slide of a row, and its patches, with the row's mpp and annotations.

    Raises:
        SlideError: If the slide cannot be read.
        TableError: If its annotations cannot be read.
    """
    # Before anything is read: with a wrong mpp, tissue or grid can be too large for the memory.
    check_places(slide, config, mpp=row.mpp)
    regions = None if row.annotations is None else read_regions(row.annotations, origin=slide.origin)
    tissue = segment_tissue(slide, config, mpp=row.mpp, regions=regions)
    return tissue, place_patches(slide, config, mpp=row.mpp, tissue=tissue)


def write_patch_coords(row: SlideRow, *, config: PatchConfig, path: Path) -> Coords:
    """Find the patches of a slide and write their coordinates; what was written. There may be no patch.

    The tissue mask, its outline and a picture of both are written to `tissue/`, next to the file. Skips a
    slide if its file was made from the same slide with the same settings.

    Raises:
        SlideError: If the slide cannot be read.
        TableError: If its annotations cannot be read.
        StoreError: If the disk is full, or the folder is not writable.
    """
    wanted = slide_fingerprints(row, config=config)
    found = current_coords(path, wanted)
    if found is None:
        with open_slide_of_row(row) as slide:
            tissue, grid = segment_and_place(slide, row, config=config)
            attributes = _attributes(slide, grid, config=config, row=row) | wanted
            attributes[NOTES] = json.dumps(
                [
                    *slide_notes(slide, mpp=row.mpp, config=config),
                    *few_patches_note(len(grid), config=config),
                ]
            )
            size = grid.size_level0_px
            picture = draw_tissue(slide, tissue, coords=grid.coords, size_level0_px=size)
            # Written before the coordinates: where those exist, these do too.
            write_tissue(tissue_stem(path, slide_id=row.slide_id), slide, tissue, picture=picture)
        write_coords(path, grid.coords, slide_id=row.slide_id, size_level0_px=size, attributes=attributes)
        found = read_coords(path)
    return found


def stored_notes(coords: Coords) -> list[str]:
    """The notes about the slide that `write_patch_coords` stored."""
    return json.loads(str(coords.attributes.get(NOTES, "[]")))


def tissue_stem(coords_path: Path, *, slide_id: str) -> Path:
    """The path of mask, outline and picture of a slide, without .png, .geojson and .jpg."""
    return coords_path.parent / "tissue" / slide_id


def open_slide_of_row(row: SlideRow) -> Slide:
    """The open slide of a row of the table.

    Raises:
        SlideError: If the row has no path, or the slide cannot be opened.
    """
    if row.path is None:
        raise SlideError(f"slide {row.slide_id}: no path in the table; fill its path column")
    return open_slide(row.path)


def _attributes(slide: Slide, grid: PatchGrid, *, config: PatchConfig, row: SlideRow) -> dict[str, object]:
    """TRIDENT's attributes of `coords`, as far as known, and how the pixels are read."""
    found = study_resolution(slide.scale, table=row.mpp, config=config)
    level, size_read = reading_level(slide, grid)
    known: dict[str, object] = {
        "patch_size": grid.size_px,
        "overlap": config.overlap_px,
        "level0_width": slide.width_px,
        "level0_height": slide.height_px,
        "read_level": level,
        "patch_size_read": size_read,
    }
    if found.mpp is not None:
        known |= {"mpp": found.mpp, "mpp_from": found.source}
        magnification = UM_PER_PX_AT_1X / found.mpp
        known["level0_magnification"] = round(magnification)
        known["target_magnification"] = round(magnification * grid.size_px / grid.size_level0_px)
    return known
