"""Everyone else's feature files: TRIDENT's .h5, CLAM's h5_files and pt_files, STAMP's .h5."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import as_instances, read_bag
from hardmil.bags.collection import FoundBags, collect_bags
from hardmil.bags.saved_tensor import read_saved_tensor
from hardmil.bags.slide_table import SlideRow, SlideTable
from hardmil.bags.stamp import is_stamp, stamp_bag
from hardmil.errors import FeatureFileError, SlideError
from hardmil.files.h5 import open_h5
from hardmil.slides.reader import open_slide

# Where a slide's file may lie below the folder: an .h5 first, as only it says where the patches are.
_PLACES = ("{}.h5", "h5_files/{}.h5", "{}.pt", "pt_files/{}.pt")


def read_feature_folder(folder: Path, slide_table: SlideTable, *, quiet: bool = False) -> FoundBags:
    """The bags of all slides of a table; a slide whose file fails is among the failures.

    Raises:
        BagError: If two bags differ in kind or length of their instances, in encoder or in patch size.
    """

    def read(row: SlideRow) -> Bag:
        path = find_feature_file(folder, slide_id=row.slide_id)
        return read_features(path, row, label=slide_table.class_index(row))

    return collect_bags(read, slide_table.rows, label="reading features", quiet=quiet)


def find_feature_file(folder: Path, *, slide_id: str) -> Path:
    """The file of a slide in a folder as TRIDENT or CLAM leave it; an .h5 before a .pt.

    Raises:
        FeatureFileError: If there is none.
    """
    names = [place.format(slide_id) for place in _PLACES]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FeatureFileError(
        f"slide {slide_id}: no feature file in {folder}; expected {', '.join(names[:-1])} or {names[-1]}; "
        "write it, or correct the slide_id"
    )


def read_features(path: Path, row: SlideRow, *, label: int) -> Bag:
    """The bag of a slide in a feature file.

    An .h5 without patch size (CLAM's features) takes the step of its grid for it. A .pt holds no places:
    its bag has coords of 0 and a size of 0, which says that they are not known; so has STAMP's, in
    micrometres, where neither the row nor the slide says how many a pixel has.

    Raises:
        FeatureFileError: If the file is damaged or in no layout we know.
        EmptyBagError: If it holds no instance.
        BagError: If its instances are no finite features.
    """
    if path.suffix == ".pt":
        features = as_instances(read_saved_tensor(path))
        coords = np.zeros((len(features), 2), dtype=np.int64)
        return Bag(row.slide_id, row.case_id, label, features, coords, size_level0_px=0)
    with open_h5(path) as file:
        if is_stamp(file):
            mpp = _mpp_of(row)
            return stamp_bag(file, slide_id=row.slide_id, case_id=row.case_id, label=label, mpp=mpp)
    bag = read_bag(path, slide_id=row.slide_id, case_id=row.case_id, label=label)
    return bag if bag.size_level0_px else replace(bag, size_level0_px=grid_step(bag.coords))


def _mpp_of(row: SlideRow) -> float | None:
    """What the table says, or else the slide; None where neither does, or the slide cannot be opened."""
    if row.mpp is not None or row.path is None or not row.path.is_file():
        return row.mpp
    try:
        with open_slide(row.path) as slide:
            return slide.mpp
    except SlideError:
        return None


def grid_step(coords: Int64[np.ndarray, "patch 2"]) -> int:
    """The most common distance between neighbours in a row of patches; 0 if no row has two.

    The patch size of a grid without overlap. CLAM lays one grid a piece of tissue, so the smallest
    distance would be that between two grids.
    """
    ordered = coords[np.lexsort((coords[:, 0], coords[:, 1]))]
    steps = np.diff(ordered, axis=0)
    in_row = steps[(steps[:, 1] == 0) & (steps[:, 0] > 0), 0]
    if len(in_row) == 0:
        return 0
    values, counts = np.unique(in_row, return_counts=True)
    return int(values[np.argmax(counts)])
