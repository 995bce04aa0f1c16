"""Synthetic slides with known truth, for the demo and the tests.

Haematoxylin and eosin are drawn as optical densities and converted to RGB by the Beer-Lambert law. Positive
slides have a few foci of large, crowded, irregular nuclei ("lesion"). Look-alikes are equally crowded foci of
regular nuclei: they mislead a model that is trained only on slide labels. For studies of three classes, there
are two lesions: A is that lesion, and the nuclei of B are slender and dark; each has look-alikes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8

from hardmil.errors import ConfigError
from hardmil.files.atomic import write_atomically
from hardmil.files.geojson import Region, write_regions
from hardmil.phantom.cells import Focus, nucleus_share, populate, stain_nuclei
from hardmil.phantom.tissue import Blob, Ground, Map, blob, fill, grain, lay_ground, outline

GAP_PX = 6.0
"""Minimum distance of two foci."""

HAEMATOXYLIN = (0.62, 0.71, 0.34)
EOSIN = (0.17, 0.86, 0.42)
"""Optical densities of the two stains in red, green and blue; between Ruifrok 2001 and Macenko 2009."""
GLASS = (243.0, 242.0, 244.0)
STAIN_VARIATION = 0.12
"""Relative variation of the amount of stain between slides, one sigma."""
TILE_PX = 256
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Foci:
    """Number and radius of the foci of a kind on a slide that has any: minimum and maximum of each.

    Radii are in level-0 px; a patch of 32 px at 1 um/px has an edge of 64 of these.
    """

    n: tuple[int, int] = (3, 5)
    radius_px: tuple[float, float] = (48.0, 84.0)


DEFAULT_FOCI = Foci()


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic slide and its truth: regions named as in `hardmil.phantom.cells.KINDS`."""

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
    foci: Foci = DEFAULT_FOCI,
) -> Phantom:
    """A synthetic slide; the same seed gives the same pixels. Cells are drawn for 0.5 um/px for any `mpp`.

    Raises:
        ConfigError: If the slide is too small for a focus of a kind that it should have.
    """
    wanted = {"lesion": lesion, "look-alike": look_alikes}
    return draw_foci(seed, wanted=wanted, width_px=width_px, height_px=height_px, mpp=mpp, foci=foci)


def draw_foci(
    seed: int,
    *,
    wanted: Mapping[str, bool],
    width_px: int = 1200,
    height_px: int = 900,
    mpp: float = 0.5,
    foci: Foci = DEFAULT_FOCI,
) -> Phantom:
    """A synthetic slide as `draw_phantom` draws it, with other kinds of foci.

    Args:
        seed: The same seed and kinds give the same pixels.
        wanted: The kinds, by their names in `hardmil.phantom.cells.KINDS`, and whether the slide has them.
        width_px: Width.
        height_px: Height.
        mpp: Micrometres per pixel, as the file states it.
        foci: Number and size of the foci of a kind.

    Raises:
        ConfigError: If the slide is too small for a focus of a kind that it should have.
    """
    rng = np.random.default_rng(seed)
    shape = (height_px, width_px)
    depth = outline(rng, shape=shape)
    names: list[str] = []
    for name, is_wanted in wanted.items():
        names += [name] * (int(rng.integers(*foci.n, endpoint=True)) * is_wanted)
    nests, fat, vessels = _lay_out(rng, depth=depth, names=names, radius_px=foci.radius_px)
    if {focus.name for focus in nests} != set(names):
        raise ConfigError(
            f"a synthetic slide of {width_px} x {height_px} px has no room for a focus; make it larger"
        )
    ground = lay_ground(rng, depth=depth, nests=[focus.outline for focus in nests], fat=fat, vessels=vessels)
    nuclei = populate(rng, ground=ground, foci=nests, vessels=vessels)
    rgb = _develop(rng, ground=ground, foci=nests, nuclei=stain_nuclei(rng, nuclei, shape=shape))
    return Phantom(rgb, [Region(focus.outline.rim, focus.name) for focus in nests], mpp)


def _lay_out(
    rng: np.random.Generator, *, depth: Map, names: Sequence[str], radius_px: tuple[float, float]
) -> tuple[list[Focus], list[Blob], list[Blob]]:
    """Foci, lobules of fat and vessels that do not touch; those without room are left out."""
    n_foci, n_fat, n_vessels = len(names), int(rng.integers(1, 3)), int(rng.integers(2, 5))
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
        centre = _find_centre(rng, room=room, reach_px=item.reach_px, taken=list(blobs.values()))
        if centre is not None:
            blobs[index] = item.moved(centre)
    foci = [Focus(item, names[index]) for index, item in blobs.items() if index < n_foci]
    fat = [item for index, item in blobs.items() if n_foci <= index < n_foci + n_fat]
    return foci, fat, [item for index, item in blobs.items() if index >= n_foci + n_fat]


def _room(depth: Map) -> Float32[np.ndarray, "quarter_row quarter_column"]:
    """Distance of every fourth pixel to the edge of the tissue, in px."""
    import cv2

    is_tissue = np.pad((depth[::4, ::4] > 0).astype(np.uint8), 1)
    return 4 * cv2.distanceTransform(is_tissue, cv2.DIST_L2, 3)[1:-1, 1:-1]


def _find_centre(
    rng: np.random.Generator, *, room: Map, reach_px: float, taken: list[Blob]
) -> Float[np.ndarray, "2"] | None:
    """A random centre at which only tissue is within reach; None if 150 tries find none."""
    row, column = np.nonzero(room > reach_px)
    for index in rng.permutation(len(row))[:150]:
        centre = 4.0 * np.array([column[index], row[index]])
        if all(np.hypot(*(centre - other.centre)) > reach_px + other.reach_px + GAP_PX for other in taken):
            return centre
    return None


def _develop(
    rng: np.random.Generator, *, ground: Ground, foci: list[Focus], nuclei: Map
) -> UInt8[np.ndarray, "height width 3"]:
    """RGB of the light that passes both stains, with blur and noise of lens and sensor."""
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
    """Write the slide as a tiled, pyramidal JPEG TIFF, and its truth as GeoJSON next to it.

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
