"""The cells of a synthetic slide: positions, and shape and density of the nuclei.

The constants of `Kind` define how the kinds of nuclei differ, and so how difficult the cohort is.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Float32, Int

from hardmil.phantom.tissue import Blob, Ground, Map, fill, grain, smooth_noise


@dataclass(frozen=True)
class Kind:
    """The appearance of one kind of nuclei. Lengths in px of 0.5 um; `_variation` is a relative sigma."""

    radius_px: float
    radius_variation: float
    elongation: float
    elongation_variation: float
    irregularity: float
    """How much the contour deviates from an ellipse."""
    density: float
    """Optical density of haematoxylin in the body of the nucleus."""
    density_variation: float
    rim: float
    """Relative additional density of the nuclear membrane."""
    clumps: float
    """How uneven the chromatin is."""
    nucleoli: float
    """Mean number of nucleoli in a nucleus."""
    crowding: float
    """Minimum distance of two centres, relative to the sum of their radii; below 1 nuclei overlap."""


LYMPHOCYTE = Kind(6.3, 0.09, 1.08, 0.05, 0.03, 1.25, 0.10, 0.10, 0.22, 0.0, 0.95)
FIBROBLAST = Kind(5.9, 0.20, 3.6, 0.30, 0.05, 0.95, 0.18, 0.05, 0.18, 0.0, 1.2)
LOOK_ALIKE = Kind(8.8, 0.10, 1.20, 0.10, 0.04, 0.86, 0.12, 0.26, 0.24, 0.5, 0.93)
LESION = Kind(10.6, 0.27, 1.32, 0.18, 0.10, 0.98, 0.22, 0.30, 0.42, 1.1, 0.86)
SPINDLE_LOOK_ALIKE = Kind(6.2, 0.10, 2.7, 0.12, 0.04, 0.96, 0.12, 0.06, 0.18, 0.0, 0.95)
SPINDLE_LESION = Kind(7.2, 0.20, 2.9, 0.18, 0.08, 1.20, 0.20, 0.10, 0.34, 0.2, 0.80)
KINDS = {
    "lesion": LESION,
    "look-alike": LOOK_ALIKE,
    "lesion A": LESION,
    "look-alike A": LOOK_ALIKE,
    "lesion B": SPINDLE_LESION,
    "look-alike B": SPINDLE_LOOK_ALIKE,
}
"""The nuclei of each kind of focus, by its name in the truth; those of B are slender."""

CONTOUR_POINTS = 26
STROMA_PX = 700.0
"""Area of stroma for each candidate position of a cell; about half of the candidates are used."""


@dataclass(frozen=True)
class Focus:
    """A nest of crowded nuclei: a lesion, or a reactive focus that looks like one; its name is in `KINDS`."""

    outline: Blob
    name: str

    @property
    def kind(self) -> Kind:
        """The kind of its nuclei."""
        return KINDS[self.name]


@dataclass(frozen=True, eq=False)
class Nuclei:
    """Nuclei of all kinds, one row for each; angles in radians from x towards y."""

    centre: Float[np.ndarray, "nucleus 2"]
    radius: Float[np.ndarray, " nucleus"]
    angle: Float[np.ndarray, " nucleus"]
    elongation: Float[np.ndarray, " nucleus"]
    irregularity: Float[np.ndarray, " nucleus"]
    density: Float[np.ndarray, " nucleus"]
    rim: Float[np.ndarray, " nucleus"]
    clumps: Float[np.ndarray, " nucleus"]
    n_nucleoli: Int[np.ndarray, " nucleus"]


def populate(rng: np.random.Generator, *, ground: Ground, foci: list[Focus], vessels: list[Blob]) -> Nuclei:
    """All nuclei of a slide: crowded in the foci, along the fibres and in infiltrates between them."""
    groups = [_crowd(rng, focus=focus) for focus in foci]
    groups += _stroma_cells(rng, ground=ground, foci=foci)
    groups += [_endothelium(rng, vessel=vessel) for vessel in vessels]
    return Nuclei(
        **{
            item.name: np.concatenate([getattr(group, item.name) for group in groups])
            for item in fields(Nuclei)
        }
    )


def _of_kind(
    rng: np.random.Generator, kind: Kind, *, centre: np.ndarray, radius: np.ndarray, angle: np.ndarray
) -> Nuclei:
    n = len(centre)
    return Nuclei(
        centre=centre,
        radius=radius,
        angle=angle,
        elongation=kind.elongation * np.exp(rng.normal(0, kind.elongation_variation, n)).clip(0.6, 1.8),
        irregularity=np.full(n, kind.irregularity),
        density=kind.density * np.exp(rng.normal(0, kind.density_variation, n)).clip(0.55, 1.7),
        rim=np.full(n, kind.rim),
        clumps=np.full(n, kind.clumps),
        n_nucleoli=rng.poisson(kind.nucleoli, n),
    )


def _radii(rng: np.random.Generator, kind: Kind, *, n: int) -> Float[np.ndarray, " nucleus"]:
    return kind.radius_px * np.exp(rng.normal(0, kind.radius_variation, n)).clip(0.55, 1.75)


def keep_apart(
    centre: Float[np.ndarray, "nucleus 2"], radius: Float[np.ndarray, " nucleus"], *, crowding: float
) -> Int[np.ndarray, " kept"]:
    """Indices of nuclei at least `crowding` times the sum of radii away from all that were kept before."""
    kept: list[int] = []
    is_free = np.ones(len(centre), bool)
    for index in range(len(centre)):
        if is_free[index]:
            kept.append(index)
            distance2 = ((centre - centre[index]) ** 2).sum(axis=1)
            is_free &= distance2 >= (crowding * (radius + radius[index])) ** 2
    return np.array(kept, dtype=np.int64)


def _crowd(rng: np.random.Generator, *, focus: Focus) -> Nuclei:
    import cv2

    kind, outline = focus.kind, focus.outline
    n = int(22 * (outline.radius / kind.radius_px) ** 2)
    centre = outline.centre + rng.uniform(-1.5, 1.5, (n, 2)) * outline.radius
    rim = outline.rim.astype(np.float32)
    depth_px = np.array([cv2.pointPolygonTest(rim, (x, y), True) for x, y in centre.tolist()])
    centre = centre[depth_px > 0.7 * kind.radius_px]
    radius = _radii(rng, kind, n=len(centre))
    kept = keep_apart(centre, radius, crowding=kind.crowding)
    angle = rng.uniform(0, np.pi, len(kept))
    return _of_kind(rng, kind, centre=centre[kept], radius=radius[kept], angle=angle)


def _stroma_cells(rng: np.random.Generator, *, ground: Ground, foci: list[Focus]) -> list[Nuclei]:
    """Fibroblasts along the fibres; lymphocytes scattered, in infiltrates and around foci."""
    height, width = ground.tissue.shape
    centre = rng.uniform(0, 1, (int(height * width / STROMA_PX), 2)) * [width, height]
    x, y = centre.astype(np.int64).T
    infiltrate = smooth_noise(rng, shape=(height, width), scale_px=110)[y, x]
    inside = fill([item.outline.scaled(1.12) for item in foci], shape=(height, width), soften_px=1)[y, x]
    around = fill([item.outline.scaled(1.6) for item in foci], shape=(height, width), soften_px=14)[y, x]
    p_lymphocyte = (0.10 + 0.9 * np.clip(infiltrate - 0.6, 0, 0.8) + 0.3 * around).clip(0, 0.85)
    draw = rng.uniform(0, 1, len(centre))
    is_lymphocyte = draw < p_lymphocyte
    is_used = (is_lymphocyte | (draw > 0.55)) & (ground.tissue[y, x] > 0.9) & (inside < 0.1)

    radius = np.where(
        is_lymphocyte,
        _radii(rng, LYMPHOCYTE, n=len(centre)),
        _radii(rng, FIBROBLAST, n=len(centre)),
    )
    angle = ground.fibre_angle[y, x].astype(np.float64) + rng.normal(0, 0.15, len(centre))
    used = np.flatnonzero(is_used)
    used = used[keep_apart(centre[used], radius[used], crowding=LYMPHOCYTE.crowding)]
    kinds = ((FIBROBLAST, used[~is_lymphocyte[used]]), (LYMPHOCYTE, used[is_lymphocyte[used]]))
    return [_of_kind(rng, kind, centre=centre[i], radius=radius[i], angle=angle[i]) for kind, i in kinds]


def _endothelium(rng: np.random.Generator, *, vessel: Blob) -> Nuclei:
    """A few flat nuclei along the wall of a vessel."""
    n = int(vessel.radius / 4)
    at = rng.choice(len(vessel.rim), n, replace=False)
    tangent = np.roll(vessel.rim, -1, axis=0)[at] - np.roll(vessel.rim, 1, axis=0)[at]
    return _of_kind(
        rng,
        FIBROBLAST,
        centre=vessel.scaled(1 + 4 / vessel.radius)[at],
        radius=0.75 * _radii(rng, FIBROBLAST, n=n),
        angle=np.arctan2(tangent[:, 1], tangent[:, 0]),
    )


def contours(rng: np.random.Generator, nuclei: Nuclei) -> Float[np.ndarray, "nucleus point 2"]:
    """Outlines around (0, 0): ellipses distorted by their irregularity; long ones are tapered."""
    n = len(nuclei.radius)
    angle = np.linspace(0, 2 * np.pi, CONTOUR_POINTS, endpoint=False)
    order = np.arange(2, 6)
    size = rng.normal(0, 1, (n, len(order))) * (nuclei.irregularity[:, None] / np.sqrt(order - 1))
    phase = rng.uniform(0, 2 * np.pi, (n, len(order)))
    waves = np.cos(angle * order[:, None] + phase[:, :, None])
    distance = nuclei.radius[:, None] * (1 + (size[:, :, None] * waves).sum(axis=1)).clip(0.5, 1.6)
    stretch = np.sqrt(nuclei.elongation)[:, None]
    taper = 1 - np.clip((nuclei.elongation[:, None] - 1.5) * 0.25, 0, 0.45) * np.cos(angle) ** 2
    u, v = distance * np.cos(angle) * stretch, distance * np.sin(angle) / stretch * taper
    cos, sin = np.cos(nuclei.angle)[:, None], np.sin(nuclei.angle)[:, None]
    return np.stack([u * cos - v * sin, u * sin + v * cos], axis=-1)


def stain_nuclei(
    rng: np.random.Generator, nuclei: Nuclei, *, shape: tuple[int, int]
) -> Float32[np.ndarray, "row column"]:
    """Optical density of haematoxylin of all nuclei: membrane, body, clumped chromatin, nucleoli."""
    import cv2

    # OpenCV draws anti-aliased edges only in bytes, so densities are drawn in hundredths.
    density, clumps = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    around_zero = contours(rng, nuclei)
    outer = _sixteenths(nuclei.centre[:, None] + around_zero)
    inner = _sixteenths(nuclei.centre[:, None] + around_zero * 0.80)
    body = (nuclei.density * 100).tolist()
    rim = (nuclei.density * (1 + nuclei.rim) * 100).clip(0, 255).tolist()
    uneven = (nuclei.clumps * 255).tolist()
    for i in range(len(body)):
        cv2.fillPoly(density, [outer[i]], rim[i], cv2.LINE_AA, 4)
        cv2.fillPoly(density, [inner[i]], body[i], cv2.LINE_AA, 4)
        cv2.fillPoly(clumps, [outer[i]], uneven[i], cv2.LINE_AA, 4)
    _dot_nucleoli(rng, nuclei, density=density)
    chromatin = clumps * np.float32(0.55 / 255) * grain(rng, shape=shape, sigma_px=1.5)
    return np.clip(density * np.float32(0.01) * (1 + chromatin), 0, 2.4)


def _dot_nucleoli(rng: np.random.Generator, nuclei: Nuclei, *, density: np.ndarray) -> None:
    import cv2

    owner = np.repeat(np.arange(len(nuclei.radius)), nuclei.n_nucleoli)
    position = nuclei.centre[owner] + rng.normal(0, 0.25, (len(owner), 2)) * nuclei.radius[owner, None]
    size = nuclei.radius[owner] * rng.uniform(0.13, 0.24, len(owner))
    dark = (nuclei.density[owner] * 165).clip(0, 230)
    rows = zip(_sixteenths(position).tolist(), _sixteenths(size).tolist(), dark.tolist(), strict=True)
    for (x, y), radius, value in rows:
        cv2.circle(density, (x, y), radius, value, -1, cv2.LINE_AA, 4)


def _sixteenths(pixels: np.ndarray) -> np.ndarray:
    """Coordinates in the fixed-point format of OpenCV, 1/16 px."""
    return np.rint(pixels * 16).astype(np.int32)


def nucleus_share(haematoxylin: Map) -> Map:
    """Share of each pixel that is covered by a nucleus, 0 to 1."""
    return np.clip(haematoxylin * np.float32(1.7), 0, 1)
