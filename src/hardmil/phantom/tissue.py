"""The tissue of a synthetic slide without its cells: outline, collagen, fat, vessels.

Maps cover the whole slide, row by column, float32; stains are in optical density.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

Map = Float32[np.ndarray, "row column"]

FIBRE_PX = (30.0, 1.5)
"""Length and thickness of a collagen fibril."""
FAT_CELL_PX = 66.0
"""Distance of the centres of two fat cells; half of the real distance, to fit on a small slide."""
RED_CELL_PX = 5.5
"""Radius of a red blood cell."""


@dataclass(frozen=True, eq=False)
class Blob:
    """A rounded outline: centre (x, y), mean radius and points of its rim, in level-0 px."""

    centre: Float[np.ndarray, "2"]
    radius: float | int
    rim: Float[np.ndarray, "point 2"]

    def scaled(self, factor: float | int) -> Float[np.ndarray, "point 2"]:
        """The rim, scaled from the centre."""
        return self.centre + (self.rim - self.centre) * factor

    def moved(self, centre: Float[np.ndarray, "2"]) -> "Blob":
        """The same outline at another centre."""
        return Blob(centre, self.radius, self.rim - self.centre + centre)

    @property
    def reach_px(self) -> float:
        """Distance from the centre to the farthest point of the rim."""
        return float(np.hypot(*(self.rim - self.centre).T).max())


@dataclass(frozen=True, eq=False)
class Ground:
    """Stains and fibre directions of the tissue without cells."""

    tissue: Map
    """1 in tissue, 0 on glass, in between along edges."""
    haematoxylin: Map
    eosin: Map
    fibre_angle: Map
    """Direction of the collagen, radians from x towards y."""


def smooth_noise(rng: np.random.Generator, *, shape: tuple[int, int], scale_px: float | int) -> Map:
    """Smooth random values with features about `scale_px` wide, mean 0, standard deviation about 0.7."""
    import cv2

    height, width = shape
    coarse = rng.standard_normal([int(edge / scale_px) + 4 for edge in shape], dtype=np.float32)
    # Wide features are drawn at a quarter of the size: no visible difference for a 16th of the work.
    shrink = 4 if scale_px >= 20 else 1
    hills = cv2.resize(
        coarse, None, fx=scale_px / shrink, fy=scale_px / shrink, interpolation=cv2.INTER_CUBIC
    )
    start = int(scale_px / shrink)
    part = hills[start : start + -(-height // shrink), start : start + -(-width // shrink)]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)


def grain(rng: np.random.Generator, *, shape: tuple[int, int], sigma_px: float | int) -> Map:
    """Blurred random noise, mean 0, standard deviation 1."""
    import cv2

    shrink = 2 if sigma_px >= 2 else 1
    noise = rng.standard_normal([-(-edge // shrink) for edge in shape], dtype=np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), sigma_px / shrink)
    if shrink > 1:
        blurred = cv2.resize(blurred, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return blurred * np.float32(2 * np.sqrt(np.pi) * sigma_px / shrink)


def blob(
    rng: np.random.Generator, *, centre: Float[np.ndarray, "2"], radius: float | int, wobble: float
) -> Blob:
    """A rounded outline of 48 points around a centre, with about the area of a circle of `radius`."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    order = np.arange(2, 7)
    size = rng.normal(0, wobble / np.sqrt(order))
    phase = rng.uniform(0, 2 * np.pi, len(order))
    waves = (size * np.cos(np.outer(angle, order) + phase)).sum(axis=1)
    distance = radius * (1 + waves).clip(0.45, 1.6)
    return Blob(centre, radius, centre + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def fill(polygons: list[np.ndarray], *, shape: tuple[int, int], soften_px: float | int) -> Map:
    """1 inside the polygons, 0 outside, blurred at the border."""
    import cv2

    shrink = 4 if soften_px >= 8 else 1
    area = np.zeros([-(-edge // shrink) for edge in shape], np.uint8)
    for polygon in polygons:
        cv2.fillPoly(area, [np.rint(polygon * 16 / shrink).astype(np.int32)], 255, cv2.LINE_AA, 4)
    area = cv2.GaussianBlur(area, (0, 0), soften_px / shrink)
    if shrink > 1:
        area = cv2.resize(area, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return area.astype(np.float32) * np.float32(1 / 255)


def outline(rng: np.random.Generator, *, shape: tuple[int, int]) -> Map:
    """How far inside the tissue each pixel is; the edge is at 0, irregular at several scales."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None] ** 4
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :] ** 4
    depth = np.float32(0.66) - (x + y)
    for scale_px, amount in ((210, 0.24), (70, 0.09), (22, 0.035), (7, 0.02)):
        depth += np.float32(amount) * smooth_noise(rng, shape=shape, scale_px=scale_px)
    return depth


def lay_ground(
    rng: np.random.Generator, *, depth: Map, nests: list[Blob], fat: list[Blob], vessels: list[Blob]
) -> Ground:
    """Collagen whose fibres run around the nests, with clefts, fat and vessels."""
    shape = (depth.shape[0], depth.shape[1])
    along, across = _flow(rng, shape=shape, nests=nests)
    fibrils, bundles = _collagen(rng, along=along, across=across)
    looseness = smooth_noise(rng, shape=shape, scale_px=130)
    eosin = 0.50 + 0.085 * fibrils + 0.075 * bundles - 0.09 * looseness
    eosin += 0.035 * grain(rng, shape=shape, sigma_px=1.1)
    haematoxylin = 0.05 + 0.012 * fibrils + 0.015 * smooth_noise(rng, shape=shape, scale_px=40)

    lumens = fill([vessel.rim for vessel in vessels], shape=shape, soften_px=1.0)
    walls = fill([vessel.scaled(1 + 9 / vessel.radius) for vessel in vessels], shape=shape, soften_px=2.0)
    red = fill(_red_cells(rng, vessels=vessels), shape=shape, soften_px=0.8)
    eosin = (np.clip(eosin, 0.12, None) + 0.12 * walls) * (1 - red) + 0.95 * red

    clefts = _clefts(rng, bundles=bundles, looseness=looseness, nests=nests)
    empty = np.maximum(np.maximum(_fat_cells(rng, fat=fat, shape=shape), lumens), clefts)
    tissue = np.clip(depth * 28 + 0.5, 0, 1) * (1 - empty)
    return Ground(np.maximum(tissue, red), np.clip(haematoxylin, 0.01, None), eosin, _angle_of(across))


def _flow(rng: np.random.Generator, *, shape: tuple[int, int], nests: list[Blob]) -> tuple[Map, Map]:
    """Coordinates along and across the fibres: a rotated grid, distorted by noise and displaced by nests."""
    x = np.arange(shape[1], dtype=np.float32)[None, :]
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    turn = rng.uniform(0, np.pi)
    along = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    across = y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn))
    for scale_px, amount in ((280, 85), (90, 14), (34, 3.2)):
        across += np.float32(amount) * smooth_noise(rng, shape=shape, scale_px=scale_px)
        along += np.float32(amount) * smooth_noise(rng, shape=shape, scale_px=scale_px)
    for nest in nests:
        # A bump with the slope of the grid, so that fibres pass on both sides of the nest.
        left, top = (np.float32(value) for value in nest.centre)
        narrow = np.float32(-1 / (2 * (1.1 * nest.radius) ** 2))
        hill = np.exp((y - top) ** 2 * narrow) * np.exp((x - left) ** 2 * narrow)
        across += np.float32(1.5 * nest.radius) * hill
    return along, across


def _collagen(rng: np.random.Generator, *, along: Map, across: Map) -> tuple[Map, Map]:
    """Noise of fine fibrils and of coarse bundles, both stretched along the fibres."""
    import cv2

    length, thickness = FIBRE_PX
    sheets: list[Map] = []
    for long, thick in ((length, thickness), (length * 3, thickness * 6)):
        sheet = np.pad(rng.standard_normal((512, 128), dtype=np.float32), 1, mode="wrap")
        u, v = _wrapped(along, unit=long, period=128) + 1, _wrapped(across, unit=thick, period=512) + 1
        sheets.append(cv2.remap(sheet, u, v, cv2.INTER_LINEAR))
    return sheets[0], sheets[1]


def _wrapped(values: Map, *, unit: float | int, period: int) -> Map:
    """Values in units, modulo a period; four times as fast as the modulo of NumPy."""
    turns = values * np.float32(1 / (unit * period))
    return (turns - np.floor(turns)) * np.float32(period)


def _angle_of(across: Map) -> Map:
    """The direction in which `across` is constant."""
    import cv2

    small = cv2.resize(across, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    angle = np.arctan2(cv2.Sobel(small, cv2.CV_32F, 1, 0), -cv2.Sobel(small, cv2.CV_32F, 0, 1))
    return cv2.resize(angle, (across.shape[1], across.shape[0]), interpolation=cv2.INTER_NEAREST)


def _clefts(rng: np.random.Generator, *, bundles: Map, looseness: Map, nests: list[Blob]) -> Map:
    """Gaps between bundles, as from tearing, and around nests, as from shrinkage."""
    shape = (bundles.shape[0], bundles.shape[1])
    splits = np.clip((-bundles - 1.0) * 2.2, 0, 1) * np.clip(looseness * 1.8 - 0.6, 0, 1)
    if not nests:
        return splits
    outer = fill([nest.scaled(1.06) for nest in nests], shape=shape, soften_px=1.0)
    inner = fill([nest.rim for nest in nests], shape=shape, soften_px=1.0)
    torn = np.clip(smooth_noise(rng, shape=shape, scale_px=45) * 1.4 - 0.2, 0, 0.85)
    return np.maximum(splits * (1 - inner), (outer - inner) * torn)


def _red_cells(rng: np.random.Generator, *, vessels: list[Blob]) -> list[np.ndarray]:
    """Red cells in some of the vessels, as polygons."""
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    circle = RED_CELL_PX * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    cells: list[np.ndarray] = []
    for vessel in vessels:
        fullness = rng.choice([0.0, 0.35, 0.9])
        n = int(fullness * (vessel.radius / RED_CELL_PX) ** 2)
        way = rng.uniform(0, 2 * np.pi, n)
        distance = np.sqrt(rng.uniform(0, 1, n)) * max(vessel.radius * 0.8 - RED_CELL_PX, 0)
        cells += [
            vessel.centre + d * np.array([np.cos(w), np.sin(w)]) + circle
            for w, d in zip(way, distance, strict=True)
        ]
    return cells


def _fat_cells(rng: np.random.Generator, *, fat: list[Blob], shape: tuple[int, int]) -> Map:
    """Empty, rounded polygons with thin walls between them: Voronoi cells of jittered points."""
    import cv2

    cells = [cell for lobule in fat for cell in _voronoi_cells(rng, lobule=lobule)]
    walls = np.zeros(shape, np.uint8)
    cv2.polylines(
        walls, [np.rint(cell * 16).astype(np.int32) for cell in cells], True, 255, 3, cv2.LINE_AA, 4
    )
    # Blur and threshold, to round the corners of the lobule.
    rounded = np.clip((fill(cells, shape=shape, soften_px=7) - 0.5) * 8, 0, 1)
    return rounded * (1 - cv2.GaussianBlur(walls, (0, 0), 0.7).astype(np.float32) * np.float32(1 / 255))


def _voronoi_cells(rng: np.random.Generator, *, lobule: Blob) -> list[np.ndarray]:
    from scipy.spatial import Voronoi

    n = int(2 * lobule.radius / FAT_CELL_PX) + 3
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2) - (n - 1) / 2
    grid[:, 0] += grid[:, 1] % 2 * 0.5
    points = lobule.centre + (grid + rng.normal(0, 0.17, grid.shape)) * FAT_CELL_PX
    diagram = Voronoi(points)
    cells: list[np.ndarray] = []
    for point, region in zip(points, diagram.point_region, strict=True):
        corners = diagram.vertices[diagram.regions[region]] - point
        is_whole = -1 not in diagram.regions[region] and np.hypot(*corners.T).max() < 1.1 * FAT_CELL_PX
        if is_whole and np.hypot(*(point - lobule.centre)) < lobule.radius:
            cells.append(point + corners)
    return cells
