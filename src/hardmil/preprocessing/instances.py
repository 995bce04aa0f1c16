"""From a slide to its bag: pixels or embeddings of its patches."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import read_bag, write_bag_in_parts
from hardmil.bags.provenance import Provenance
from hardmil.bags.slide_table import SlideRow
from hardmil.config.patches import PatchConfig
from hardmil.config.study import InstanceConfig
from hardmil.encoders.checked import checked_embeddings, constant_error, is_constant
from hardmil.encoders.encoder import PatchEncoder
from hardmil.errors import BagError, EmptyBagError
from hardmil.files.user_table import read_user_table
from hardmil.jobs.run import read_ahead
from hardmil.preprocessing.fingerprints import (
    current_coords,
    finished_instances,
    instance_fingerprints,
)
from hardmil.preprocessing.patch_coords import (
    open_slide_of_row,
    segment_and_place,
    write_patch_coords,
)
from hardmil.slides.color import equalise, equalise_block
from hardmil.slides.grid import PatchGrid
from hardmil.slides.reading import read_blocks, read_patches
from hardmil.slides.slide import Slide
from hardmil.slides.tissue import DEFAULT_PATCHES

READ_THREADS = 2


@dataclass(frozen=True, eq=False)
class PatchedSlide:
    """A slide with its patch coordinates, and the attributes of its bag file."""

    row: SlideRow
    grid: PatchGrid
    attributes: Mapping[str, object]


def start_patches(
    row: SlideRow, *, config: InstanceConfig, coords_path: Path, made_by: str | None
) -> PatchedSlide:
    """Find the patches of a slide, or read their coordinates if they are stored.

    Raises:
        SlideError: If the slide cannot be read.
        TableError: If its annotations cannot be read.
        StoreError: If the disk is full, or the folder is not writable.
    """
    found = write_patch_coords(row, config=config.patches, path=coords_path)
    grid = PatchGrid(found.coords, config.patches.size_px, found.size_level0_px, np.ones(len(found.coords)))
    wanted = instance_fingerprints(row, config=config, made_by=made_by)
    return PatchedSlide(row, grid, {**found.attributes, **wanted, "encoder": made_by})


def write_instances(row: SlideRow, *, config: InstanceConfig, coords_path: Path, path: Path) -> int:
    """Write the pixels of a slide's patches as a bag file, block by block; the number of patches.

    Finds the patches first if `write_patch_coords` was not run. Skips a slide if its file was made from the
    same slide with the same settings. Pixels are stored without equalisation. `encode_slides` writes
    embeddings.

    Raises:
        SlideError: If the slide cannot be read.
        TableError: If its annotations cannot be read.
        StoreError: If the disk is full, or the folder is not writable.
    """
    done = finished_instances(path, row=row, config=config, made_by=None)
    if done is not None:
        return done
    patched = start_patches(row, config=config, coords_path=coords_path, made_by=None)
    grid, size = patched.grid, patched.grid.size_level0_px
    with (
        open_slide_of_row(row) as slide,
        write_bag_in_parts(
            path, grid.coords, slide_id=row.slide_id, size_level0_px=size, attributes=patched.attributes
        ) as put,
    ):
        for members, patches in read_blocks(slide, grid, icc=config.patches.icc, threads=READ_THREADS):
            put(members, patches)
    return len(grid)


def read_instances(row: SlideRow, *, config: InstanceConfig, path: Path, label: int) -> Bag:
    """The bag of a slide from its file; pixels are equalised.

    Raises:
        BagError: If there is no file, or it was made with other settings.
    """
    if not path.exists():
        reason = _why_none(path.parent, slide_id=row.slide_id)
        raise BagError(
            f"slide {row.slide_id}: no bag at {path}; run: hardmil encode"
            if reason is None
            else f"slide {row.slide_id}: it has no bag, because encode failed: {reason}; then run again: "
            "hardmil encode"
        )
    if current_coords(path, instance_fingerprints(row, config=config)) is None:
        raise BagError(
            f"slide {row.slide_id}: {path} was made with other `patches` or `encode` settings than "
            f"those of the study, or from another file than {row.path} is now; run again: hardmil encode"
        )
    bag = read_bag(path, case_id=row.case_id, label=label, slide_id=row.slide_id)
    return equalised(bag, config=config.patches)


def _why_none(folder: Path, *, slide_id: str) -> str | None:
    """Why the last `encode` made no bag of a slide, by its table of failures; None if it does not say."""
    path = folder / "failures.csv"
    lines = read_user_table(path, what="a table of failures").lines if path.exists() else ()
    return next((row["message"] for _, row in lines if row["name"] == slide_id), None)


def encode_slide(
    row: SlideRow,
    *,
    config: PatchConfig = DEFAULT_PATCHES,
    label: int = -1,
    mpp: float | None = None,
    encoder: PatchEncoder | None = None,
) -> Bag:
    """The bag of a slide, straight from the slide: patches equalised, then encoded. Writes nothing.

    Args:
        row: The slide; its own mpp is used before the file's.
        config: How patches are made. Its `mpp` is not used: it was meant for other slides.
        label: 0, 1, or -1 where it is unknown.
        mpp: Micrometres per pixel where neither the row nor the file has it.
        encoder: From patches to embeddings; None keeps pixels.

    Raises:
        SlideError: If the slide cannot be read.
        TableError: If its annotations cannot be read.
        EmptyBagError: If none of its patches has enough tissue.
        BagError: If the encoder gives wrong embeddings; see `encoded`.
    """
    with open_slide_of_row(row) as slide:
        config = config.model_copy(update={"mpp": mpp})
        _, grid = segment_and_place(slide, row, config=config)
        if len(grid) == 0:
            raise EmptyBagError(
                f"slide {row.slide_id}: no patch has {config.min_tissue:.0%} tissue; expected at least one; "
                "check its tissue, lower patches.min_tissue (--set patches.min_tissue=0 takes all patches), "
                "or leave the slide out"
            )
        instances = _instances(slide, grid, config=config, encoder=encoder, slide_id=row.slide_id)
    made = Provenance(encoder.name if encoder is not None else None)
    return Bag(row.slide_id, row.case_id, label, instances, grid.coords, grid.size_level0_px, provenance=made)


def _instances(
    slide: Slide, grid: PatchGrid, *, config: PatchConfig, encoder: PatchEncoder | None, slide_id: str
) -> np.ndarray:
    """Equalised pixels, or their embeddings, block by block so that pixels do not stay in memory."""
    if encoder is None:
        return equalise(read_patches(slide, grid, icc=config.icc, threads=READ_THREADS), mode=config.equalise)
    found = first = None
    varied = False
    blocks = read_blocks(slide, grid, icc=config.icc, threads=READ_THREADS)
    for members, patches in read_ahead(blocks, depth=2):
        shown = equalise_block(patches, mode=config.equalise)
        vectors = checked_embeddings(shown, encoder=encoder, slide_id=slide_id)
        if found is None or first is None:
            found, first = np.empty((len(grid), vectors.shape[1]), vectors.dtype), shown[:1]
        found[members] = vectors
        varied = varied or bool((shown != first).any())
    if found is None or (varied and is_constant(found)):
        raise constant_error(encoder, slide_id=slide_id, n_patches=len(grid))
    return found


def equalised(bag: Bag, *, config: PatchConfig) -> Bag:
    """The bag with equalised patches, as the settings say; features stay unchanged."""
    if bag.kind == "features":
        return bag
    return replace(bag, instances=equalise(bag.instances, mode=config.equalise))


def encoded(bag: Bag, *, encoder: PatchEncoder) -> Bag:
    """The bag with float16 embeddings instead of its pixels.

    Raises:
        BagError: If an embedding is not finite, the number of embeddings is wrong, or all are the same
            although the patches differ.
    """
    embeddings = checked_embeddings(bag.instances, encoder=encoder, slide_id=bag.slide_id)
    if is_constant(embeddings) and not is_constant(bag.instances):
        raise constant_error(encoder, slide_id=bag.slide_id, n_patches=len(bag))
    return replace(bag, instances=embeddings, provenance=Provenance(encoder.name))
