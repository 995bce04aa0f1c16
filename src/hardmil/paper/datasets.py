"""The two sets of the paper in their original layout, its settings, and its numbers."""

import csv
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from hardmil.bags.bag import Bag
from hardmil.config.study import PIXELS, PatchConfig, StudyConfig, TrainingConfig
from hardmil.errors import ConfigError, TableError
from hardmil.evaluation.truth import LESION, LOOK_ALIKE, Truth
from hardmil.slides.color import equalise
from hardmil.slides.reader import SlideReader, open_slide
from hardmil.slides.reading import cut_patches, place_patches, read_patches

COLON_PX, UCSB_PX = 27, 32
# For an encoder: colon 100 cuts of 35 um an image, enlarged to 112 px; UCSB 48 cuts, enlarged to 224.
ENCODED = {
    "colon": ({"size_px": 64, "overlap_px": 16, "equalise": "none"}, 112),
    "ucsb": ({"size_px": 112, "equalise": "none"}, 224),
}
# Sirinukunwattana et al. 2016; that of the UCSB images is not given.
COLON_MPP = 0.55
NUCLEI = ("epithelial", "fibroblast", "inflammatory", "others")
GROUPS = "abutting_groups.csv"
GROUP_COLUMN = "group_0.45_plus_by_eye"

PAPER_ARMS = ("abmil", "gated", "ours", "ours+sb", "ours+mb", "ours+fmb")


@dataclass(frozen=True)
class Published:
    """A mean and its standard error, as printed."""

    mean: float
    se: float | None = None


def _row(*cells: tuple[float, float] | None) -> dict[str, Published]:
    names = ("accuracy", "precision", "recall", "f_score", "auc", "fpr")
    return {name: Published(*cell) for name, cell in zip(names, cells, strict=True) if cell is not None}


# Li et al. 2019, Tables 1 and 2. The MIL model is quoted there from Ilse et al. 2018: its plain attention on
# colon, its gated attention on UCSB.
PAPER: Mapping[str, Mapping[str, Mapping[str, Published]]] = {
    "colon": {
        "abmil": _row((0.904, 0.011), (0.953, 0.014), (0.855, 0.017), (0.901, 0.011), (0.968, 0.009), None),
        "ours": _row(
            (0.906, 0.007), (0.912, 0.010), (0.916, 0.012), (0.905, 0.008), (0.952, 0.012), (0.104, 0.012)
        ),
        "ours+sb": _row(
            (0.922, 0.004), (0.937, 0.011), (0.920, 0.014), (0.920, 0.005), (0.979, 0.004), (0.084, 0.012)
        ),
        "ours+mb": _row(
            (0.942, 0.005), (0.963, 0.010), (0.928, 0.017), (0.939, 0.006), (0.982, 0.009), (0.052, 0.010)
        ),
        "ours+fmb": _row(
            (0.948, 0.004), (0.980, 0.003), (0.920, 0.006), (0.945, 0.004), (0.983, 0.004), (0.036, 0.007)
        ),
    },
    "ucsb": {
        "gated": _row((0.755, 0.016), (0.728, 0.016), (0.731, 0.042), (0.725, 0.023), (0.799, 0.020), None),
        "ours": _row(
            (0.821, 0.006), (0.870, 0.032), (0.800, 0.038), (0.806, 0.011), (0.942, 0.008), (0.220, 0.058)
        ),
        "ours+sb": _row(
            (0.893, 0.001), (0.920, 0.012), (0.886, 0.024), (0.887, 0.015), (0.949, 0.006), (0.140, 0.019)
        ),
        "ours+mb": _row(
            (0.936, 0.004), (0.936, 0.011), (0.943, 0.014), (0.935, 0.005), (0.967, 0.004), (0.100, 0.016)
        ),
        "ours+fmb": _row(
            (0.975, 0.008), (0.975, 0.012), (0.979, 0.009), (0.975, 0.007), (0.999, 0.001), (0.040, 0.019)
        ),
    },
}


def published_config(name: str, *, encode: str = PIXELS) -> StudyConfig:
    """The paper's settings for colon or ucsb; what it leaves open is as in the knobs' defaults.

    With an encoder, which the paper has none of, larger cuts and the defaults of training on features.
    """
    if encode != PIXELS:
        knobs, encode_px = ENCODED[name]
        patches = PatchConfig(um_per_px=None, **knobs)
        return StudyConfig(encode=encode, encode_px=encode_px, patches=patches)
    patches = PatchConfig(um_per_px=None, size_px=COLON_PX if name == "colon" else UCSB_PX)
    if name == "colon":
        training = TrainingConfig(epochs=120, lr=5e-5, weight_decay=5e-4)
    else:
        training = TrainingConfig(epochs=300, lr=5e-6, weight_decay=1e-4)
    return StudyConfig(patches=patches, training=training)


@dataclass(frozen=True, eq=False)
class PublishedSet:
    """Bags of a published set, and what had to be decided to make them; `truth` where nuclei are known."""

    bags: Sequence[Bag]
    classes: tuple[str, str]
    notes: tuple[str, ...]
    paths: Mapping[str, Path]
    mpp: float | None
    truth: Mapping[str, Truth] = field(default_factory=dict)


def read_published(name: str, *, folder: Path, split: str, config: PatchConfig) -> PublishedSet:
    """The bags of colon or ucsb, with the image or its group for a case.

    Args:
        name: colon or ucsb.
        folder: The set's folder, in its original layout, or the one above it.
        split: `image`, each image a case, as in the paper; `group`, images of one field
            (colon: abutting tiles) or of one array (ucsb: name stem) are a case.
        config: How patches are cut and equalised.

    Raises:
        TableError: If the set is not there in its layout.
        ConfigError: If nuclei are asked for on a set without annotated nuclei.
    """
    if name == "colon":
        return _read_colon(folder, split=split, config=config)
    if config.mode == "nuclei":
        raise ConfigError("ucsb: no annotated nuclei, expected patches grid; run without --patches nuclei")
    return _read_ucsb(folder, split=split, config=config)


def _read_colon(folder: Path, *, split: str, config: PatchConfig) -> PublishedSet:
    root = _find(folder, "Classification", what="the colon set, CRCHistoPhenotypes_2016_04_28")
    images = sorted((root / "Classification").glob("img*/img*.bmp"), key=_number)
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
    """What the patches hold: an epithelial nucleus (lesion), none but another one (look-alike), or none."""
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
            return _grid_patches(slide, config=config)
        rgb = slide.read(0, 0, slide.width_px, slide.height_px)
    coords = nucleus_corners(np.concatenate([nuclei[kind] for kind in NUCLEI]), size_px=config.size_px)
    return cut_patches(rgb, coords, size_px=config.size_px), coords, []


def _grid_patches(slide: SlideReader, *, config: PatchConfig) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Patches on tissue; all patches of an image where none is, which is said."""
    grid, notes = place_patches(slide, config), []
    if len(grid) == 0:
        grid = place_patches(slide, config.model_copy(update={"min_tissue": 0.0}))
        notes = [
            f"{slide.path.stem}: no patch holds {config.min_tissue:.0%} tissue; it keeps all {len(grid)}"
        ]
    return read_patches(slide, grid), grid.coords, notes


def nucleus_corners(
    centres: Float[np.ndarray, "nucleus 2"], *, size_px: int
) -> Int64[np.ndarray, "nucleus 2"]:
    """Top-left corners of patches centred on nuclei; they may lie outside the image."""
    return nucleus_pixels(centres) - size_px // 2


def nucleus_pixels(centres: Float[np.ndarray, "nucleus 2"]) -> Int64[np.ndarray, "nucleus 2"]:
    """The pixels that nuclei are centred on; the files are 1-based and not all whole."""
    return np.floor(centres + 0.5).astype(np.int64) - 1


def colon_nuclei(image: Path, *, kind: str) -> Float[np.ndarray, "nucleus 2"]:
    """Centres (x, y) of the annotated nuclei of a kind, as in the file; 0 rows where there are none.

    Raises:
        TableError: If the .mat file is missing or not readable.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = image.with_name(f"{image.stem}_{kind}.mat")
    try:
        centres = np.asarray(loadmat(path)["detection"], dtype=np.float64)
    except (OSError, LookupError, ValueError, NotImplementedError, MatReadError, zlib.error) as error:
        raise TableError(
            f"{path}: {error}; expected a .mat file with `detection`; take the set anew"
        ) from error
    return centres.reshape(-1, 2)


def colon_groups(root: Path, *, images: Iterable[int]) -> dict[int, int]:
    """The group of abutting images each image belongs to, by its number.

    Raises:
        TableError: If the table of groups is not beside the images, or lacks one of them.
    """
    path = root / GROUPS
    if not path.exists():
        raise TableError(
            f"{path}: no such table, expected columns img and {GROUP_COLUMN}: images that are "
            "tiles of one field share a number; put it beside Classification, or use --split image"
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        groups = {int(row["img"]): int(row[GROUP_COLUMN]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(f"{path}: expected numbers in columns img and {GROUP_COLUMN} ({error})") from error
    alone = next((number for number in images if number not in groups), None)
    if alone is not None:
        raise TableError(f"{path}: no group of img{alone}, expected one of each image; add it")
    return groups


def _read_ucsb(folder: Path, *, split: str, config: PatchConfig) -> PublishedSet:
    root = _find(folder, "ytma*.tif*", what="the UCSB breast set")
    made: list[Bag] = []
    notes: list[str] = []
    images = sorted(root.glob("ytma*.tif*"))
    for path in images:
        found = re.match(r"(ytma\d+_\d+)_(benign|malignant)\d+", path.stem)
        if found is None:
            raise TableError(
                f"{path}: name without benign or malignant; expected ytma10_010704_benign1_ccd.tif"
            )
        stem, label = found.groups()
        with open_slide(path) as slide:
            patches, coords, note = _grid_patches(slide, config=config)
        notes += note
        pixels = equalise(patches, mode=config.equalise)
        case = stem if split == "group" else path.stem
        made.append(Bag(path.stem, case, int(label == "malignant"), pixels, coords, config.size_px))
    paths = {path.stem: path for path in images}
    return PublishedSet(made, ("benign", "malignant"), tuple(notes), paths, mpp=None)


def _find(folder: Path, pattern: str, *, what: str) -> Path:
    """The folder, or the one folder just below it, that holds the pattern."""
    if not folder.is_dir():
        raise TableError(f"{folder}: no such folder; expected {what}; give its place by --data")
    for candidate in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if any(candidate.glob(pattern)):
            return candidate
    raise TableError(f"{folder}: no {pattern} in it; expected {what} in its original layout; check --data")


def _number(path: Path) -> int:
    return int("".join(filter(str.isdigit, path.stem)) or 0)
