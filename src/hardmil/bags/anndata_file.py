"""AnnData files of tiles (.h5ad), as LazySlide and wsidata export them: features, corners, size of a tile."""

from pathlib import Path

import h5py
import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import as_instances
from hardmil.bags.h5_fields import as_coords, plain, values_of
from hardmil.bags.slide_table import SlideRow
from hardmil.errors import FeatureFileError
from hardmil.files.h5 import open_h5
from hardmil.files.h5_checks import check_links

CORNERS = "obsm/spatial"
TILE_SPEC = "uns/tile_spec"


def anndata_bag(path: Path, row: SlideRow, *, label: int) -> Bag:
    """The bag in an AnnData file: `X`, and `obsm["spatial"]`, the top-left corners of tiles in level-0 px.

    The size is that of `uns["tile_spec"]`, 0 where there is none.

    Raises:
        FeatureFileError: If the file is damaged, or has no dense features or no corners.
        EmptyBagError: If it has no tiles.
        BagError: If its features are not finite.

    Source: `wsidata/accessors/fetch.py:features_anndata` and `_model/tile.py:TileSpec`,
    github.com/rendeirolab/wsidata.
    """
    with open_h5(path) as file:
        if not isinstance(file.get("X"), h5py.Dataset):
            raise FeatureFileError(
                f"{path}: X is {'sparse' if 'X' in file else 'missing'}; expected features as a dense array; "
                "write it again, with X as a numpy array"
            )
        _check_links(file, CORNERS, path=path)
        if CORNERS not in file:
            raise FeatureFileError(
                f'{path}: no obsm["spatial"]; expected the top-left corner of each tile in level-0 px; write '
                "it again, as wsi.fetch.features_anndata of LazySlide gives it"
            )
        features, coords = as_instances(values_of(file, "X")), as_coords(values_of(file, CORNERS), path=path)
        size = _tile_size(file, path=path)
    if len(features) != len(coords):
        raise FeatureFileError(
            f"{path}: {len(features)} rows in X and {len(coords)} corners; expected one for each tile; write "
            "it again"
        )
    return Bag(row.slide_id, row.case_id, label, features, coords, size_level0_px=size)


def level0_size(width: object, height: object, downsample: object, *, path: Path) -> int:
    """The edge of a tile in level-0 px from its size and the factor between its level and level 0.

    Raises:
        FeatureFileError: If tiles are not square, or a value is not a number of pixels.
    """
    numbers = (width, height, downsample)
    if not all(isinstance(one, int | float) and 0 < one < 2**31 for one in numbers) or width != height:
        raise FeatureFileError(
            f"{path}: tiles of {width} x {height} px at {downsample}; expected squares; cut square tiles"
        )
    return round(float(str(width)) * float(str(downsample)))


def _tile_size(file: h5py.File, *, path: Path) -> int:
    names = [f"{TILE_SPEC}/{name}" for name in ("width", "height", "base_downsample")]
    _check_links(file, names[0], path=path)
    if not all(name in file for name in names):
        return 0
    width, height, downsample = (plain(np.asarray(values_of(file, name))[()]) for name in names)
    return level0_size(width, height, downsample, path=path)


def _check_links(file: h5py.File, name: str, *, path: Path) -> None:
    """Check the groups above a name for links; those of the file itself were checked when it was opened."""
    found: object = file
    for part in name.split("/")[:-1]:
        found = found.get(part) if isinstance(found, h5py.Group) else None
        if isinstance(found, h5py.Group):
            check_links(found, path=path)
