"""Made-up slides with known truth, for the demo and the tests.

Haematoxylin and eosin are laid down as optical densities and developed by Beer-Lambert's law; nothing is
drawn in pink. Positive slides hold a few foci of large, crowded, uneven nuclei ("lesion"); look-alikes are
foci as crowded, of regular nuclei: they fool a model that was only told which slides are positive.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8

from hardmil.errors import ConfigError
from hardmil.files.atomic import write_atomically
from hardmil.files.geojson import Region, write_regions
from hardmil.phantom.cells import Focus, nucleus_share, populate, stain_nuclei
from hardmil.phantom.tissue import Blob, Ground, Map, blob, fill, grain, lay_ground, outline

GAP_PX = 6.0
"""Least distance of two foci."""
BOTH_SHARE = 0.5
"""Share of the positive slides of a cohort that hold look-alikes too."""

HAEMATOXYLIN = (0.62, 0.71, 0.34)
EOSIN = (0.17, 0.86, 0.42)
"""Optical densities of the two stains in red, green and blue; between Ruifrok 2001 and Macenko 2009."""
GLASS = (243.0, 242.0, 244.0)
STAIN_VARIATION = 0.12
"""How much the amount of a stain differs from slide to slide, relative."""
TILE_PX = 256
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Foci:
    """How many foci of a kind lie on a slide that has any, and how large they are: least and most of each.

    Radii in level-0 px; a patch of 32 px at 1 um/px covers 64 of these.
    """

    n: tuple[int, int] = (3, 5)
    radius_px: tuple[float, float] = (48.0, 84.0)


USUAL_FOCI = Foci()


@dataclass(frozen=True, eq=False)
class Phantom:
    """A made-up slide and its truth: regions named "lesion" and "look-alike"."""

    rgb: UInt8[np.ndarray, "height width 3"]
    regions: list[Region]
    mpp: float


def draw_phantom(
    seed: int,
    *,
    lesion: bool,
    look_alikes: bool,
    width_px: int = 1200,
    height_px: int = 900,
    mpp: float = 0.5,
    foci: Foci = USUAL_FOCI,
) -> Phantom:
    """A slide; the same seed gives the same pixels. Cells are drawn for 0.5 um/px whatever `mpp` says.

    Raises:
        ConfigError: If the slide is too small for a single focus of a kind it should hold.
    """
    rng = np.random.default_rng(seed)
    shape = (height_px, width_px)
    depth = outline(rng, shape=shape)
    n_lesions, n_look_alikes = (
        int(rng.integers(*foci.n, endpoint=True)) * wanted for wanted in (lesion, look_alikes)
    )
    nests, fat, vessels = _lay_out(
        rng, depth=depth, n_lesions=n_lesions, n_look_alikes=n_look_alikes, radius_px=foci.radius_px
    )
    for wanted, is_lesion in ((lesion, True), (look_alikes, False)):
        if wanted and not any(focus.is_lesion == is_lesion for focus in nests):
            raise ConfigError(
                f"a made-up slide of {width_px} x {height_px} px has no room for a focus; make it larger"
            )
    ground = lay_ground(rng, depth=depth, nests=[focus.outline for focus in nests], fat=fat, vessels=vessels)
    nuclei = populate(rng, ground=ground, foci=nests, vessels=vessels)
    rgb = _develop(rng, ground=ground, foci=nests, nuclei=stain_nuclei(rng, nuclei, shape=shape))
    regions = [Region(focus.outline.rim, "lesion" if focus.is_lesion else "look-alike") for focus in nests]
    return Phantom(rgb, regions, mpp)


def _lay_out(
    rng: np.random.Generator,
    *,
    depth: Map,
    n_lesions: int,
    n_look_alikes: int,
    radius_px: tuple[float, float],
) -> tuple[list[Focus], list[Blob], list[Blob]]:
    """Foci, lobules of fat and vessels, none touching another; what finds no room is left out."""
    n_foci, n_fat, n_vessels = n_lesions + n_look_alikes, int(rng.integers(1, 3)), int(rng.integers(2, 5))
    radius = np.concatenate(
        [
            rng.uniform(*radius_px, n_foci),
            rng.uniform(80, 140, n_fat),
            rng.uniform(14, 30, n_vessels),
        ]
    )
    room = _room(depth)
    blobs: dict[int, Blob] = {}
    for index, mean_radius in enumerate(radius.tolist()):
        item = blob(rng, centre=np.zeros(2), radius=mean_radius, wobble=0.14)
        place = _place(rng, room=room, reach_px=item.reach_px, taken=list(blobs.values()))
        if place is not None:
            blobs[index] = item.moved(place)
    foci = [Focus(item, index < n_lesions) for index, item in blobs.items() if index < n_foci]
    fat = [item for index, item in blobs.items() if n_foci <= index < n_foci + n_fat]
    return foci, fat, [item for index, item in blobs.items() if index >= n_foci + n_fat]


def _room(depth: Map) -> Float32[np.ndarray, "quarter_row quarter_column"]:
    """Distance of every fourth pixel to the edge of the tissue, px."""
    import cv2

    is_tissue = np.pad((depth[::4, ::4] > 0).astype(np.uint8), 1)
    return 4 * cv2.distanceTransform(is_tissue, cv2.DIST_L2, 3)[1:-1, 1:-1]


def _place(
    rng: np.random.Generator, *, room: Map, reach_px: float, taken: list[Blob]
) -> Float[np.ndarray, "2"] | None:
    """A random centre from which nothing is in reach but tissue; None where few tries find none."""
    row, column = np.nonzero(room > reach_px)
    for index in rng.permutation(len(row))[:150]:
        place = 4.0 * np.array([column[index], row[index]])
        if all(np.hypot(*(place - other.centre)) > reach_px + other.reach_px + GAP_PX for other in taken):
            return place
    return None


def _develop(
    rng: np.random.Generator, *, ground: Ground, foci: list[Focus], nuclei: Map
) -> UInt8[np.ndarray, "height width 3"]:
    """The light that two stains leave over, seen by a lens and a sensor."""
    import cv2

    shape = (nuclei.shape[0], nuclei.shape[1])
    cytoplasm = fill([focus.outline.rim for focus in foci], shape=shape, soften_px=2.5)
    mottle = grain(rng, shape=shape, sigma_px=2.2)
    eosin = ground.eosin + cytoplasm * (0.40 + 0.045 * mottle - ground.eosin)
    eosin *= 1 - np.float32(0.5) * nucleus_share(nuclei)
    haematoxylin = ground.haematoxylin + nuclei + cytoplasm * (0.15 + 0.025 * mottle)
    light = np.empty((*shape, 3), np.float32)
    amounts = rng.normal(1, STAIN_VARIATION, 2).clip(0.75, 1.3).astype(np.float32)
    haematoxylin *= ground.tissue * amounts[0]
    eosin *= ground.tissue * amounts[1]
    tint = rng.normal(0, 0.02, (2, 3))
    for channel in range(3):
        of_h, of_e = HAEMATOXYLIN[channel] + tint[0, channel], EOSIN[channel] + tint[1, channel]
        density = haematoxylin * np.float32(-of_h) - eosin * np.float32(of_e)
        light[..., channel] = np.exp(density) * np.float32(GLASS[channel])
    light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.6, 0.9))
    light += 2 * rng.standard_normal((*shape, 1), dtype=np.float32)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def write_phantom(path: Path, phantom: Phantom) -> None:
    """Write the slide as a tiled, pyramidal JPEG TIFF, and its truth as GeoJSON beside it.

    Raises:
        StoreError: If they cannot be written.
    """
    import cv2
    import tifffile

    level, mpp = phantom.rgb, phantom.mpp
    with write_atomically(path) as draft, tifffile.TiffWriter(draft) as tiff:
        while True:
            tiff.write(
                level,
                subfiletype=0 if mpp == phantom.mpp else 1,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": JPEG_QUALITY},
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            if max(level.shape) <= 2 * TILE_PX:
                break
            level = cv2.resize(
                level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA
            )
            mpp *= 2
    write_regions(path.with_suffix(".geojson"), phantom.regions)


@dataclass(frozen=True)
class _Case:
    case_id: str
    part: str
    is_positive: bool
    look_alikes: bool
    seed: int


def write_cohort(
    folder: Path,
    *,
    n_train: int = 24,
    n_test: int = 16,
    seed: int = 0,
    size_px: tuple[int, int] = (1200, 900),
    foci: Foci = USUAL_FOCI,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write slides, their truth, slides.csv and CLAM's splits_0.csv into a folder; the path of slides.csv.

    Half of each part is positive; half of its negative slides hold look-alikes. One slide a case.

    Args:
        folder: Made where it is not there; slides of the same name are replaced.
        n_train: Slides to learn from.
        n_test: Slides to test on.
        seed: Same seed, same slides.
        size_px: Width and height of a slide.
        foci: Lesions and look-alikes of a slide that holds any; few, small ones on a large slide are rare.
        progress: Called with the id of each slide once it is written.

    Raises:
        StoreError: If the folder cannot be written.
    """
    rng = np.random.default_rng(seed)
    parts = _plan(rng, n=n_train, part="train") + _plan(rng, n=n_test, part="test")
    cases = [replace(case, case_id=f"case-{i:02d}") for i, case in enumerate(parts, start=1)]
    for case in cases:
        phantom = draw_phantom(
            case.seed,
            lesion=case.is_positive,
            look_alikes=case.look_alikes,
            width_px=size_px[0],
            height_px=size_px[1],
            foci=foci,
        )
        write_phantom(folder / "slides" / f"{case.case_id}.tif", phantom)
        if progress is not None:
            progress(case.case_id)
    _write_splits(folder / "splits_0.csv", cases=cases)
    table = folder / "slides.csv"
    _write_csv(
        table, header=["slide_id", "case_id", "label", "path", "mpp"], rows=[_row(case) for case in cases]
    )
    return table


def _plan(rng: np.random.Generator, *, n: int, part: str) -> list[_Case]:
    """Cases of one part in random order, half of them positive."""
    cases: list[_Case] = []
    for index in range(n):
        is_positive, of_its_label = index % 2 == 0, index // 2
        share = BOTH_SHARE if is_positive else 0.5
        look_alikes = int((of_its_label + 1) * share) > int(of_its_label * share)
        cases.append(_Case("", part, is_positive, look_alikes, int(rng.integers(2**31))))
    return [cases[index] for index in rng.permutation(n)]


def _row(case: _Case) -> list[object]:
    label = "positive" if case.is_positive else "negative"
    return [case.case_id, case.case_id, label, f"slides/{case.case_id}.tif", 0.5]


def _write_splits(path: Path, *, cases: list[_Case]) -> None:
    """CLAM's layout: a column for each part, as long as it is; the first column counts."""
    train, test = ([case.case_id for case in cases if case.part == part] for part in ("train", "test"))
    rows = [[i, a or "", "", b or ""] for i, (a, b) in enumerate(zip_longest(train, test))]
    _write_csv(path, header=["", "train", "val", "test"], rows=rows)


def _write_csv(path: Path, *, header: list[str], rows: list[list[object]]) -> None:
    with write_atomically(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
