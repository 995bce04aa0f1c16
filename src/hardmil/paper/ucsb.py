"""The UCSB breast set in its original layout."""

import re
from pathlib import Path

from hardmil.bags.bag import Bag
from hardmil.config.patches import PatchConfig
from hardmil.errors import TableError
from hardmil.files.atomic import visible
from hardmil.paper.images import PublishedSet, find_set_folder, grid_patches
from hardmil.slides.color import equalise
from hardmil.slides.reader import open_slide


def read_ucsb(folder: Path, *, split: str, config: PatchConfig) -> PublishedSet:
    """The bags of the UCSB breast set.

    Raises:
        TableError: If the set is not in the folder in its layout.
    """
    root = find_set_folder(folder, "ytma*.tif*", what="the UCSB breast set")
    made: list[Bag] = []
    notes: list[str] = []
    images = visible(root.glob("ytma*.tif*"))
    for path in images:
        found = re.match(r"(ytma\d+_\d+)_(benign|malignant)\d+", path.stem)
        if found is None:
            raise TableError(
                f"{path}: its name lacks benign or malignant; expected ytma10_010704_benign1_ccd.tif"
            )
        stem, label = found.groups()
        with open_slide(path) as slide:
            patches, coords, note = grid_patches(slide, config=config)
        notes += note
        pixels = equalise(patches, mode=config.equalise)
        case = stem if split == "group" else path.stem
        made.append(Bag(path.stem, case, int(label == "malignant"), pixels, coords, config.size_px))
    paths = {path.stem: path for path in images}
    return PublishedSet(made, ("benign", "malignant"), tuple(notes), paths, mpp=None)
