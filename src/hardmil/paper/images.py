"""What both published sets share: a set of images, and their grid patches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.config.patches import PatchConfig
from hardmil.errors import TableError
from hardmil.evaluation.truth import Truth
from hardmil.files.atomic import visible
from hardmil.slides.grid import place_patches
from hardmil.slides.reading import read_patches
from hardmil.slides.slide import Slide


@dataclass(frozen=True, eq=False)
class PublishedSet:
    """The bags of a published set, with notes on decisions; `truth` where nuclei are annotated."""

    bags: Sequence[Bag]
    classes: tuple[str, str]
    notes: tuple[str, ...]
    paths: Mapping[str, Path]
    mpp: float | None
    truth: Mapping[str, Truth] = field(default_factory=dict)


def grid_patches(slide: Slide, *, config: PatchConfig) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Patches on tissue; all patches of an image without tissue, with a note."""
    grid, notes = place_patches(slide, config), []
    if len(grid) == 0:
        grid = place_patches(slide, config.model_copy(update={"min_tissue": 0.0}))
        notes = [f"{slide.path.stem}: no patch has {config.min_tissue:.0%} tissue; all {len(grid)} are kept"]
    return read_patches(slide, grid), grid.coords, notes


def find_set_folder(folder: Path, pattern: str, *, what: str) -> Path:
    """The folder, or a folder directly inside it, that contains the pattern."""
    if not folder.is_dir():
        raise TableError(f"{folder}: no such folder; expected {what}; give its folder with --data")
    for candidate in (folder, *(path for path in visible(folder.iterdir()) if path.is_dir())):
        if visible(candidate.glob(pattern)):
            return candidate
    raise TableError(f"{folder}: no {pattern} in it; expected {what} in its original layout; check --data")
