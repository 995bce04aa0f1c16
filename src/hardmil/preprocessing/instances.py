"""A slide of the table -> its patches: where they are, then their pixels or embeddings as a bag."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag, Coords, read_bag, read_coords, write_bag_in_parts, write_coords
from hardmil.bags.provenance import Made
from hardmil.bags.slide_table import SlideRow
from hardmil.config.study import PIXELS, CutConfig, PatchConfig, fingerprint
from hardmil.encoders.encoder import PatchEncoder, checked_embeddings, constant_error, is_constant
from hardmil.errors import BagError, EmptyBagError, FeatureFileError, SlideError
from hardmil.files.geojson import Region, read_regions
from hardmil.jobs.run import read_ahead
from hardmil.slides.color import equalise
from hardmil.slides.protocol import slide_notes
from hardmil.slides.reader import SlideReader, open_slide
from hardmil.slides.reading import PatchGrid, place_patches, read_blocks, read_patches, reading_level
from hardmil.slides.resolution import UM_PER_PX_AT_1X, find_resolution
from hardmil.slides.tissue import segment_tissue
from hardmil.slides.tissue_files import draw_tissue, write_tissue

# On `coords`: the knobs a file was made under and the slide it was made from, so that a second run knows what
# is finished, and a slide that was changed or corrected in the table is cut again.
MADE_UNDER = "hardmil_patches"
MADE_FROM = "hardmil_slide"
MADE_BY = "hardmil_encoder"
NOTES = "hardmil_notes"
"""On `coords`: what a person should know of the slide, a JSON list."""
READ_THREADS = 2


def made_of(row: SlideRow, *, config: PatchConfig) -> dict[str, str]:
    """What decides which pixels the patches of a slide hold, as attributes; equalising comes later.

    The file's size and time are left out where the file is not there: a slide that was archived after its
    patches were read keeps them.
    """
    knobs = config.model_dump(mode="json", exclude={"equalise"})
    annotated = None if row.annotations is None else _digest(row.annotations)
    name = row.path.name if row.path else None
    attributes = {MADE_UNDER: fingerprint([knobs, row.mpp, name, annotated])}
    if row.path is not None and row.path.exists():
        # A DICOM slide is a folder of files.
        inside = row.path.iterdir() if row.path.is_dir() else [row.path]
        files = [path for path in inside if path.is_file()]
        found = [path.stat() for path in files]
        latest = max((one.st_mtime_ns for one in found), default=0)
        attributes[MADE_FROM] = f"{sum(one.st_size for one in found)} bytes, {latest} ns"
    return attributes


def instances_made_of(row: SlideRow, *, config: CutConfig) -> dict[str, str]:
    """The same of a bag's instances: where an encoder made them, it and what it saw count too."""
    attributes = made_of(row, config=config.patches)
    if config.encode != PIXELS:
        seen = [config.patches.equalise, config.encode, config.encode_px]
        attributes[MADE_UNDER] = fingerprint([attributes[MADE_UNDER], *seen])
    return attributes


def write_places(row: SlideRow, *, config: PatchConfig, path: Path) -> Coords:
    """Find a slide's patches and write where they are; what was written. There may be none.

    In `tissue/` beside the file go the slide's mask, its outline and a picture of both. Skips a slide whose
    file was made under the same knobs, from the same slide.

    Raises:
        SlideError: If the slide cannot be read.
        TableError: If its annotations cannot.
    """
    wanted = made_of(row, config=config)
    places = _places_made_of(path, wanted)
    if places is None:
        with open_row(row) as slide:
            tissue = segment_tissue(slide, config, mpp=row.mpp, regions=_regions(row))
            grid = place_patches(slide, config, mpp=row.mpp, tissue=tissue)
            attributes = _attributes(slide, grid, config=config, row=row) | wanted
            attributes[NOTES] = json.dumps(slide_notes(slide, mpp=row.mpp, config=config))
            size = grid.size_level0_px
            picture = draw_tissue(slide, tissue, coords=grid.coords, size_level0_px=size)
            # Before the places: where those are, these are too.
            write_tissue(tissue_stem(path, slide_id=row.slide_id), slide, tissue, picture=picture)
        write_coords(path, grid.coords, slide_id=row.slide_id, size_level0_px=size, attributes=attributes)
        places = read_coords(path)
    return places


def notes_of(places: Coords) -> list[str]:
    """What a person should know of the slide, as `write_places` noted it."""
    return json.loads(str(places.attributes.get(NOTES, "[]")))


def tissue_stem(places: Path, *, slide_id: str) -> Path:
    """Where a slide's mask, outline and picture lie, less .png, .geojson and .jpg."""
    return places.parent / "tissue" / slide_id


@dataclass(frozen=True, eq=False)
class Cut:
    """A slide whose patches are to be read: where they are, and what its file will say of them."""

    row: SlideRow
    grid: PatchGrid
    attributes: Mapping[str, object]


def finished_instances(path: Path, *, row: SlideRow, config: CutConfig, made_by: str | None) -> int | None:
    """The number of instances in a slide's file, if it was made of just that; else None."""
    wanted = instances_made_of(row, config=config) | ({MADE_BY: made_by} if made_by else {})
    done = _places_made_of(path, wanted)
    return None if done is None else len(done.coords)


def start_cut(row: SlideRow, *, config: CutConfig, places: Path, made_by: str | None) -> Cut:
    """Find a slide's patches, or read where they are.

    Raises:
        SlideError: If the slide cannot be read.
    """
    found = write_places(row, config=config.patches, path=places)
    grid = PatchGrid(found.coords, config.patches.size_px, found.size_level0_px, np.ones(len(found.coords)))
    wanted = instances_made_of(row, config=config) | ({MADE_BY: made_by} if made_by else {})
    return Cut(row, grid, {**found.attributes, **wanted, "encoder": made_by})


def write_instances(row: SlideRow, *, config: CutConfig, places: Path, path: Path) -> int:
    """Read a slide's patches and write them as a bag file, a block at a time; their number.

    Finds the patches where `write_places` was not run, and skips a slide whose file was made under the same
    knobs, from the same slide. Pixels are stored as they were read; `bags.encoding` writes embeddings.

    Raises:
        SlideError: If the slide cannot be read.
    """
    done = finished_instances(path, row=row, config=config, made_by=None)
    if done is not None:
        return done
    cut = start_cut(row, config=config, places=places, made_by=None)
    grid, size = cut.grid, cut.grid.size_level0_px
    with (
        open_row(row) as slide,
        write_bag_in_parts(
            path, grid.coords, slide_id=row.slide_id, size_level0_px=size, attributes=cut.attributes
        ) as put,
    ):
        for members, patches in read_blocks(slide, grid, icc=config.patches.icc, threads=READ_THREADS):
            put(members, patches)
    return len(grid)


def read_instances(row: SlideRow, *, config: CutConfig, path: Path, label: int) -> Bag:
    """The bag of a slide from its file; pixels equalised.

    Raises:
        BagError: If there is no file, or it was made under other knobs.
    """
    if not path.exists():
        raise BagError(
            f"slide {row.slide_id}: no bag at {path}; run: hardmil encode (if it was run, failures.csv "
            "beside it says why this slide has none)"
        )
    if _places_made_of(path, instances_made_of(row, config=config)) is None:
        raise BagError(
            f"slide {row.slide_id}: {path} was made under other `patches` or `encode` knobs than the "
            f"study's, or from another file than {row.path} is now; run again: hardmil encode"
        )
    bag = read_bag(path, case_id=row.case_id, label=label, slide_id=row.slide_id)
    return equalised(bag, config=config.patches)


def cut_bag(
    row: SlideRow,
    *,
    config: PatchConfig,
    label: int,
    mpp: float | None = None,
    encoder: PatchEncoder | None = None,
) -> Bag:
    """The bag of a slide straight from the slide, equalised, then encoded; writes nothing.

    Args:
        row: The slide; its own mpp comes before the file's.
        config: How patches are cut; its `mpp`, which was said of other slides, is not used.
        label: Of the bag.
        mpp: Used where neither the row nor the file says.
        encoder: None for pixels.

    Raises:
        SlideError: If the slide cannot be read.
        EmptyBagError: If none of its patches holds enough tissue.
    """
    with open_row(row) as slide:
        config = config.model_copy(update={"mpp": mpp})
        tissue = segment_tissue(slide, config, mpp=row.mpp, regions=_regions(row))
        grid = place_patches(slide, config, mpp=row.mpp, tissue=tissue)
        if len(grid) == 0:
            raise EmptyBagError(f"slide {row.slide_id}: no patch holds {config.min_tissue:.0%} tissue")
        instances = _instances(slide, grid, config=config, encoder=encoder, slide_id=row.slide_id)
    made = Made(encoder.name if encoder is not None else None)
    return Bag(row.slide_id, row.case_id, label, instances, grid.coords, grid.size_level0_px, made=made)


def _instances(
    slide: SlideReader, grid: PatchGrid, *, config: PatchConfig, encoder: PatchEncoder | None, slide_id: str
) -> np.ndarray:
    """Equalised pixels, or their embeddings, a block at a time: pixels do not stay in memory then."""
    if encoder is None:
        return equalise(read_patches(slide, grid, icc=config.icc, threads=READ_THREADS), mode=config.equalise)
    found = first = None
    varied = False
    blocks = read_blocks(slide, grid, icc=config.icc, threads=READ_THREADS)
    for members, patches in read_ahead(blocks, depth=2):
        shown = equalise(patches, mode=config.equalise)
        vectors = checked_embeddings(shown, encoder=encoder, slide_id=slide_id)
        if found is None or first is None:
            found, first = np.empty((len(grid), vectors.shape[1]), vectors.dtype), shown[:1]
        found[members] = vectors
        varied = varied or bool((shown != first).any())
    if found is None or (varied and is_constant(found)):
        raise constant_error(encoder, slide_id=slide_id, n_patches=len(grid))
    return found


def equalised(bag: Bag, *, config: PatchConfig) -> Bag:
    """The bag with the histogram of each patch equalised, as the knob says; features as they are."""
    if bag.kind == "features":
        return bag
    return replace(bag, instances=equalise(bag.instances, mode=config.equalise))


def open_row(row: SlideRow) -> SlideReader:
    """The slide of a row of the table.

    Raises:
        SlideError: If the row names no file, or it cannot be opened.
    """
    if row.path is None:
        raise SlideError(f"slide {row.slide_id}: no path in the table; fill its path column")
    return open_slide(row.path)


def _regions(row: SlideRow) -> list[Region] | None:
    return None if row.annotations is None else read_regions(row.annotations)


def _digest(path: Path) -> str | None:
    """Of a small file's content; None where it cannot be read, which is found out when it is needed."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError:
        return None


def _places_made_of(path: Path, wanted: Mapping[str, str]) -> Coords | None:
    """The places in a file, if it was made of just that; None if it was not, or is no whole file."""
    if not path.exists():
        return None
    try:
        places = read_coords(path)
    except FeatureFileError:
        return None
    same = all(places.attributes.get(name) == value for name, value in wanted.items())
    return places if same else None


def _attributes(
    slide: SlideReader, grid: PatchGrid, *, config: PatchConfig, row: SlideRow
) -> dict[str, object]:
    """TRIDENT's attributes of `coords`, as far as they are known, and how the pixels are read."""
    found = find_resolution(slide.scale, table=row.mpp, config=config)
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
