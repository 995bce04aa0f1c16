"""The colon cancer set (CRCHistoPhenotypes) in its original layout."""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from hardmil.bags.bag import Bag
from hardmil.config.patches import PatchConfig
from hardmil.errors import TableError
from hardmil.evaluation.truth import LESION, LOOK_ALIKE, Truth
from hardmil.files.atomic import visible
from hardmil.files.user_table import read_user_table
from hardmil.paper.images import PublishedSet, find_set_folder, grid_patches
from hardmil.slides.color import equalise
from hardmil.slides.reader import open_slide
from hardmil.slides.reading import crop_patches

# Sirinukunwattana et al. 2016; that of the UCSB images is not given.
COLON_MPP = 0.55

NUCLEI = ("epithelial", "fibroblast", "inflammatory", "others")

GROUPS = "abutting_groups.csv"

GROUP_COLUMN = "group_0.45_plus_by_eye"


def read_colon(folder: Path, *, split: str, config: PatchConfig) -> PublishedSet:
    """The bags of the colon set.

    Raises:
        TableError: If the set is not in the folder in its layout.
    """
    root = find_set_folder(folder, "Classification", what="the colon set, CRCHistoPhenotypes_2016_04_28")
    images = sorted(visible((root / "Classification").glob("img*/img*.bmp")), key=_number)
    if not images:
        raise TableError(f"{root}: no Classification/imgN/imgN.bmp; expected the colon set in its layout")
    groups = colon_groups(root, images=map(_number, images)) if split == "group" else {}
    made: list[Bag] = []
    notes: list[str] = []
    truth: dict[str, Truth] = {}
    for path in images:
        nuclei = {kind: colon_nuclei(path, kind=kind) for kind in NUCLEI}
        case = f"group-{groups[_number(path)]}" if groups else path.stem
        patches, coords, note = _colon_patches(path, nuclei=nuclei, config=config)
        notes += note
        truth[path.stem] = colon_truth(coords, nuclei=nuclei, size_px=config.size_px)
        label = int(len(nuclei["epithelial"]) > 0)
        made.append(
            Bag(path.stem, case, label, equalise(patches, mode=config.equalise), coords, config.size_px)
        )
    paths = {path.stem: path for path in images}
    return PublishedSet(made, ("normal", "epithelial"), tuple(notes), paths, COLON_MPP, truth)


def colon_truth(
    coords: Int64[np.ndarray, "patch 2"],
    *,
    nuclei: Mapping[str, Float[np.ndarray, "nucleus 2"]],
    size_px: int,
) -> Truth:
    """What patches contain: an epithelial nucleus (lesion), only other nuclei (look-alike), or no nucleus."""
    codes = np.zeros(len(coords), dtype=np.int8)
    others = np.concatenate([nuclei[kind] for kind in NUCLEI if kind != "epithelial"])
    for centres, code in ((others, LOOK_ALIKE), (nuclei["epithelial"], LESION)):
        inside = nucleus_pixels(centres) - coords[:, None]
        codes[((inside >= 0) & (inside < size_px)).all(axis=2).sum(axis=1) > 0] = code
    return codes


def _colon_patches(
    path: Path, *, nuclei: Mapping[str, Float[np.ndarray, "nucleus 2"]], config: PatchConfig
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    with open_slide(path) as slide:
        if config.mode == "grid":
            return grid_patches(slide, config=config)
        rgb = slide.read(0, 0, slide.width_px, slide.height_px)
    coords = nucleus_corners(np.concatenate([nuclei[kind] for kind in NUCLEI]), size_px=config.size_px)
    return crop_patches(rgb, coords, size_px=config.size_px), coords, []


def nucleus_corners(
    centres: Float[np.ndarray, "nucleus 2"], *, size_px: int
) -> Int64[np.ndarray, "nucleus 2"]:
    """Top-left corners of patches centred on nuclei; they may be outside the image."""
    return nucleus_pixels(centres) - size_px // 2


def nucleus_pixels(centres: Float[np.ndarray, "nucleus 2"]) -> Int64[np.ndarray, "nucleus 2"]:
    """The pixels that nuclei are centred on; coordinates in the files are 1-based and not all integers."""
    return np.floor(centres + 0.5).astype(np.int64) - 1


def colon_nuclei(image: Path, *, kind: str) -> Float[np.ndarray, "nucleus 2"]:
    """Centres (x, y) of the annotated nuclei of a kind, as in the file; no rows if there are none.

    Raises:
        TableError: If the .mat file is missing or cannot be read.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = image.with_name(f"{image.stem}_{kind}.mat")
    try:
        centres = np.asarray(loadmat(path)["detection"], dtype=np.float64)
    except (OSError, LookupError, ValueError, NotImplementedError, MatReadError, zlib.error) as error:
        raise TableError(
            f"{path}: {error}; expected a .mat file with `detection`; download the set again"
        ) from error
    return centres.reshape(-1, 2)


def colon_groups(root: Path, *, images: Iterable[int]) -> dict[int, int]:
    """The group of abutting images that each image belongs to, by its number.

    Raises:
        TableError: If the table of groups is missing, or lacks an image.
    """
    path = root / GROUPS
    if not path.exists():
        raise TableError(
            f"{path}: no such table; expected columns img and {GROUP_COLUMN}: images that are "
            "tiles of one field share a number; put it next to Classification, or use --split image"
        )
    table = read_user_table(path, what="the groups of abutting images")
    table.require("img", GROUP_COLUMN)
    try:
        groups = {int(row["img"]): int(row[GROUP_COLUMN]) for _, row in table.lines}
    except ValueError as error:
        raise TableError(f"{path}: expected numbers in columns img and {GROUP_COLUMN} ({error})") from error
    alone = next((number for number in images if number not in groups), None)
    if alone is not None:
        raise TableError(f"{path}: no group for img{alone}; expected one for each image; add it")
    return groups


def _number(path: Path) -> int:
    return int("".join(filter(str.isdigit, path.stem)) or 0)
