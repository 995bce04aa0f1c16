"""A slide of the table -> its patches: where they are, then their pixels or embeddings as a bag."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag, Coords, read_bag, read_coords, write_bag, write_coords
from hardmil.bags.encoder import PatchEncoder, encoded
from hardmil.bags.manifest import SlideRow
from hardmil.config import PIXELS, CutConfig, PatchConfig, fingerprint
from hardmil.errors import BagError, FeatureFileError, SlideError
from hardmil.slides.color import equalise
from hardmil.slides.patches import PatchGrid, place_patches, read_patches, reading_level
from hardmil.slides.reader import SlideReader, open_slide
from hardmil.slides.resolution import UM_PER_PX_AT_1X, find_resolution

# On `coords`: the knobs a file was made under and the slide it was made from, so that a second run knows what
# is finished, and a slide that was changed or corrected in the table is cut again.
MADE_UNDER = "hardmil_patches"
MADE_FROM = "hardmil_slide"
READ_THREADS = 2


def made_of(row: SlideRow, *, config: PatchConfig) -> dict[str, str]:
    """What decides which pixels the patches of a slide hold, as attributes; equalising comes later.

    The file's size and time are left out where the file is not there: a slide that was archived after its
    patches were read keeps them.
    """
    knobs = config.model_dump(mode="json", exclude={"equalise"})
    attributes = {MADE_UNDER: fingerprint([knobs, row.mpp, row.path.name if row.path else None])}
    if row.path is not None and row.path.exists():
        # A DICOM slide is a folder of files.
        files = [row.path] if row.path.is_file() else [path for path in row.path.iterdir() if path.is_file()]
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


def write_places(row: SlideRow, *, config: PatchConfig, path: Path) -> int:
    """Find a slide's patches and write where they are; their number.

    Skips a slide whose file was made under the same knobs, from the same slide.

    Raises:
        SlideError: If the slide cannot be read, or none of its patches holds enough tissue.
    """
    wanted = made_of(row, config=config)
    places = _places_made_of(path, wanted)
    if places is None:
        with _open(row) as slide:
            grid = place_patches(slide, config, mpp=row.mpp)
            attributes = _attributes(slide, grid, config=config, row=row) | wanted
        size = grid.size_level0_px
        write_coords(path, grid.coords, slide_id=row.slide_id, size_level0_px=size, attributes=attributes)
        places = read_coords(path)
    if len(places.coords) == 0:
        raise SlideError(
            f"slide {row.slide_id}: no patch of {row.path} holds {config.min_tissue:.0%} tissue; look at the "
            "slide, lower patches.min_tissue, or take it out of the table"
        )
    return len(places.coords)


def write_instances(
    row: SlideRow, *, config: CutConfig, places: Path, path: Path, encoder: PatchEncoder | None = None
) -> int:
    """Read a slide's patches and write them, or their embeddings, as its bag file; their number.

    Finds the patches first where that was not done. Skips a slide whose file was made under the same knobs,
    from the same slide.

    Raises:
        SlideError: If the slide cannot be read, or none of its patches holds enough tissue.
        BagError: If the encoder gives what is no finite vector a patch.
    """
    wanted = instances_made_of(row, config=config)
    done = _places_made_of(path, wanted)
    if done is not None:
        return len(done.coords)
    write_places(row, config=config.patches, path=places)
    found = read_coords(places)
    grid = PatchGrid(found.coords, config.patches.size_px, found.size_level0_px, np.ones(len(found.coords)))
    with _open(row) as slide:
        patches = read_patches(slide, grid, icc=config.patches.icc, threads=READ_THREADS)
    bag = Bag(row.slide_id, row.case_id, -1, patches, grid.coords, grid.size_level0_px)
    attributes = {**found.attributes, **wanted}
    if encoder is not None:
        bag = encoded(equalised(bag, config=config.patches), encoder=encoder)
        attributes["encoder"] = encoder.name
    write_bag(path, bag, attributes=attributes)
    return len(bag)


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
    with _open(row) as slide:
        grid = place_patches(slide, config.model_copy(update={"mpp": mpp}), mpp=row.mpp)
        patches = read_patches(slide, grid, icc=config.icc, threads=READ_THREADS)
    bag = Bag(row.slide_id, row.case_id, label, patches, grid.coords, grid.size_level0_px)
    bag = equalised(bag, config=config)
    return bag if encoder is None else encoded(bag, encoder=encoder)


def equalised(bag: Bag, *, config: PatchConfig) -> Bag:
    """The bag with the histogram of each patch equalised, as the knob says; features as they are."""
    if bag.kind == "features":
        return bag
    return replace(bag, instances=equalise(bag.instances, mode=config.equalise))


def _open(row: SlideRow) -> SlideReader:
    if row.path is None:
        raise SlideError(f"slide {row.slide_id}: no path in the table; fill its path column")
    return open_slide(row.path)


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
