"""Feature files of other tools: TRIDENT, CLAM and STAMP (.h5, .pt), LazySlide and AnnData (.zarr, .h5ad)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from hardmil.bags.anndata_file import anndata_bag
from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import as_instances, read_bag
from hardmil.bags.collection import FoundBags, collect_bags
from hardmil.bags.saved_tensor import read_saved_tensor
from hardmil.bags.slide_table import SlideRow, SlideTable
from hardmil.bags.spatialdata_store import find_table, is_table, store_bag
from hardmil.bags.stamp import is_stamp, stamp_bag
from hardmil.errors import FeatureFileError, SlideError
from hardmil.files.h5 import open_h5
from hardmil.files.on_disk import on_disk
from hardmil.slides.reader import open_slide
from hardmil.slides.resolution import find_resolution

# Paths of a slide's file in the folder; .pt last, as it has no coordinates.
_FILE_NAMES = ("{}.h5", "h5_files/{}.h5", "{}.h5ad", "{}.pt", "pt_files/{}.pt")


def read_feature_folder(folder: Path, slide_table: SlideTable, *, quiet: bool = False) -> FoundBags:
    """The bags of all slides of a table; a slide whose file cannot be read is among the failures.

    Raises:
        BagError: If two bags differ in the kind or shape of their instances, in encoder or in patch size.
    """

    def read(row: SlideRow) -> Bag:
        path = find_feature_file(folder, slide_id=row.slide_id)
        return read_features(path, row, label=slide_table.class_index(row))

    return collect_bags(read, slide_table.rows, label="reading features", quiet=quiet)


def find_feature_file(folder: Path, *, slide_id: str) -> Path:
    """The file of a slide in a folder of features; .h5 takes precedence over .pt.

    In a folder of zarr stores it is the folder of a table. If a store has several, the name of the table
    follows that of the folder, as in `stores/uni_tiles`.

    Raises:
        FeatureFileError: If there is none, or a store has several tables and none is named.
    """
    names = [name.format(slide_id) for name in _FILE_NAMES]
    for name in names:
        path = on_disk(folder / name)
        if path.is_file():
            return path
    for within, table in ((folder, ""), (folder.parent, folder.name)):
        store = on_disk(within / f"{slide_id}.zarr")
        if store.is_dir() and (not table or not folder.exists()):
            return find_table(store, name=table)
    raise FeatureFileError(
        f"slide {slide_id}: no feature file in {folder}; expected {', '.join(names)} or {slide_id}.zarr; "
        "write it, or correct the slide_id"
    )


def read_features(path: Path, row: SlideRow, *, label: int) -> Bag:
    """The bag of a slide in a feature file.

    For an .h5 or .h5ad without a patch size (features of CLAM), the step of its grid is used. A .pt has no
    coordinates: in its bag, coords and size are 0, which means unknown. The same holds for a file of STAMP,
    whose coordinates are in micrometres, if neither the row nor the slide states the mpp.

    Raises:
        FeatureFileError: If the file is damaged or in an unknown layout.
        EmptyBagError: If it has no instances.
        BagError: If its features are not finite.
    """
    if is_table(path):
        return store_bag(path, row, label=label)
    if path.suffix == ".h5ad":
        bag = anndata_bag(path, row, label=label)
        return bag if bag.size_level0_px else replace(bag, size_level0_px=grid_step(bag.coords))
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
    """The mpp of the table, else of the slide; None if unknown, or if the slide cannot be opened."""
    if row.mpp is not None or row.path is None or not row.path.exists():
        return row.mpp
    try:
        with open_slide(row.path) as slide:
            return find_resolution(slide.scale, table=None).mpp
    except SlideError:
        return None


def grid_step(coords: Int64[np.ndarray, "patch 2"]) -> int:
    """The most common distance between neighbours in a row of patches; 0 if no row has two patches.

    It is the patch size of a grid without overlap. CLAM places one grid on each piece of tissue, so the
    smallest distance may be that between two grids.
    """
    ordered = coords[np.lexsort((coords[:, 0], coords[:, 1]))]
    steps = np.diff(ordered, axis=0)
    in_row = steps[(steps[:, 1] == 0) & (steps[:, 0] > 0), 0]
    if len(in_row) == 0:
        return 0
    values, counts = np.unique(in_row, return_counts=True)
    return int(values[np.argmax(counts)])
