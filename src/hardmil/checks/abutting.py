"""Detection of adjacent tiles: pictures whose facing edges continue each other."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

Side = Literal["top", "bottom", "left", "right"]

TREND_PX = 25.0
"""Standard deviation of the smooth trend that is subtracted along an edge: at 0.5 um/px about 1.5 nuclei. On
a larger scale, tissues of similar colour correlate without touching."""

MIN_CONTRAST = 4.0
"""Contrast (of 255, standard deviation around the trend) below which a part of an edge is blank: glass after
JPEG compression has 1 to 3, the palest stroma about 6. Blank parts are ignored."""

MIN_EDGE_PX = 64
"""A shorter edge has too little information: with about 20 independent values even neighbours stay below
MIN_Z."""

MIN_TEXTURE = 0.1
"""Minimum share of an edge that is not blank."""

MIN_Z = 5.5
"""Minimum standard score of the correlation. Scores of edges that do not touch are standard normal (colon: of
19,800 facing pairs, the highest is 3.9). Of the 61 pairs in the table of the set, 60 have 6.4 or more; the
last, 74/76, has 3.9: four fifths of its edge are blank. One more pair passes, 15/16, with 7.3, and is right:
a vessel continues across the edge. By chance, 5.5 is exceeded once in fifty million comparisons, those of
5,000 pictures."""

MIN_CORRELATION = 0.4
"""Long edges reach MIN_Z with a correlation of 0.2, which scanner stripes or a JPEG grid may cause; adjacent
tiles have more (colon: 0.45 to 0.94)."""

_ROWS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Edge:
    """The outermost pixels of one side of a picture, normalised for comparison.

    `values` are the colours minus their trend, divided by their local contrast, normalised to length 1.
    `autocorrelation` is that of `values` at lags 1 to half the length. `n_independent_colours` is 1 if the
    channels are proportional, 3 if they are uncorrelated. `texture` is the share that is not blank.
    """

    values: Float32[np.ndarray, "px 3"]
    autocorrelation: Float32[np.ndarray, " lag"]
    n_independent_colours: float
    texture: float


@dataclass(frozen=True)
class Abutment:
    """Positions of two adjacent pictures; the second is right of or below the first."""

    first: int
    second: int
    direction: Literal["right of", "below"]
    correlation: float
    z: float


def picture_edges(rgb: UInt8[np.ndarray, "height width 3"]) -> dict[Side, Edge]:
    """The edges of a picture that have enough texture; blank and short ones are left out."""
    lines: dict[Side, np.ndarray] = {
        "top": rgb[0],
        "bottom": rgb[-1],
        "left": rgb[:, 0],
        "right": rgb[:, -1],
    }
    edges: dict[Side, Edge] = {}
    for side, line in lines.items():
        edge = _edge(np.ascontiguousarray(line))
        if edge is not None:
            edges[side] = edge
    return edges


def _edge(line: UInt8[np.ndarray, "px 3"]) -> Edge | None:
    if len(line) < MIN_EDGE_PX:
        return None
    detail = line.astype(np.float32)
    detail -= _smooth(detail)
    contrast = np.sqrt(_smooth((detail**2).mean(axis=1, keepdims=True)))
    texture = float(np.mean(contrast > MIN_CONTRAST))
    if texture < MIN_TEXTURE:
        return None
    values = detail / np.maximum(contrast, MIN_CONTRAST)
    values /= np.linalg.norm(values)
    shares = np.linalg.eigvalsh((values.T @ values).astype(np.float64))
    return Edge(values, _autocorrelation(values), float(shares.sum() ** 2 / (shares**2).sum()), texture)


def _smooth(line: Float32[np.ndarray, "px channel"]) -> Float32[np.ndarray, "px channel"]:
    """The smooth trend along an edge, which is mirrored at its ends."""
    import cv2

    width = 2 * round(3 * TREND_PX) + 1
    smooth = cv2.GaussianBlur(line[None], (width, 1), sigmaX=TREND_PX, borderType=cv2.BORDER_REFLECT)
    return smooth.reshape(line.shape)


def _autocorrelation(values: Float32[np.ndarray, "px 3"]) -> Float32[np.ndarray, " lag"]:
    """The autocorrelation of all channels together, at lags 1 to half the length, by Fourier transform."""
    spectrum = np.fft.rfft(values, n=2 * len(values), axis=0)
    return np.fft.irfft((np.abs(spectrum) ** 2).sum(axis=1))[1 : len(values) // 2 + 1].astype(np.float32)


def abutting_pairs(pictures: Sequence[Mapping[Side, Edge]]) -> list[Abutment]:
    """The adjacent pictures, most certain first; each side of a picture has at most one neighbour.

    Two facing edges of equal length are compared by the correlation of their colours. Its standard score is
    `atanh(r) * sqrt(n - 3)` with n independent values. A pair is accepted if the score and the correlation
    are high enough, and if each edge is the best match of the other. The comparison is pixel by pixel: it
    finds tiles of one field without gap, overlap or change of scale. Every edge is compared with every facing
    edge, 2 n^2 dot products in blocks of 512 rows: time grows with n^2 (3,000 pictures of 500 px: seconds),
    memory with n.

    Source: the variance of a correlation of two smooth series, Bartlett 1935; `atanh`, Fisher 1915.
    """
    found = [
        *_facing(pictures, first="right", second="left", direction="right of"),
        *_facing(pictures, first="bottom", second="top", direction="below"),
    ]
    return sorted(found, key=lambda pair: (-pair.z, pair.first, pair.second))


def _facing(
    pictures: Sequence[Mapping[Side, Edge]],
    *,
    first: Side,
    second: Side,
    direction: Literal["right of", "below"],
) -> Iterator[Abutment]:
    by_length: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for position, edges in enumerate(pictures):
        if first in edges:
            by_length[len(edges[first].values)][0].append(position)
        if second in edges:
            by_length[len(edges[second].values)][1].append(position)
    for firsts, seconds in by_length.values():
        if not firsts or not seconds:
            continue
        here = _stack(firsts, [pictures[i][first] for i in firsts])
        there = _stack(seconds, [pictures[i][second] for i in seconds])
        for i, j, r, z in _mutual_best(here, there):
            yield Abutment(firsts[i], seconds[j], direction, r, z)


@dataclass(frozen=True, eq=False)
class _Edges:
    """Edges of equal length as arrays, one row for each edge."""

    pictures: Int[np.ndarray, " edge"]
    values: Float32[np.ndarray, "edge value"]
    autocorrelation: Float32[np.ndarray, "edge lag"]
    colours: Float[np.ndarray, " edge"]
    texture: Float[np.ndarray, " edge"]

    def __len__(self) -> int:
        return len(self.values)


def _stack(pictures: Sequence[int], edges: Sequence[Edge]) -> _Edges:
    return _Edges(
        np.array(pictures, np.int64),
        np.stack([edge.values.ravel() for edge in edges]),
        np.stack([edge.autocorrelation for edge in edges]),
        np.array([edge.n_independent_colours for edge in edges]),
        np.array([edge.texture for edge in edges]),
    )


def _mutual_best(here: _Edges, there: _Edges) -> Iterator[tuple[int, int, float, float]]:
    """Pairs above both thresholds that are each other's best match, with correlation and standard score."""
    best_there, best_r, best_z = (np.zeros(len(here), kind) for kind in (np.int64, float, float))
    best_here, highest = np.zeros(len(there), np.int64), np.full(len(there), -np.inf)
    for start in range(0, len(here), _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, len(here)))
        r, z = _compare(here, there, rows)
        z[np.equal.outer(here.pictures[rows], there.pictures)] = -np.inf
        partner = z.argmax(axis=1)
        at = (np.arange(len(z)), partner)
        best_there[rows], best_r[rows], best_z[rows] = partner, r[at], z[at]
        is_higher = z.max(axis=0) > highest
        best_here[is_higher] = start + z.argmax(axis=0)[is_higher]
        highest = np.maximum(highest, z.max(axis=0))
    is_taken = (best_z >= MIN_Z) & (best_r >= MIN_CORRELATION)
    is_taken &= best_here[best_there] == np.arange(len(here))
    for i in np.flatnonzero(is_taken):
        yield int(i), int(best_there[i]), float(best_r[i]), float(best_z[i])


def _compare(
    here: _Edges, there: _Edges, rows: slice
) -> tuple[Float[np.ndarray, "row there"], Float[np.ndarray, "row there"]]:
    """Correlation and standard score of some edges with all facing edges.

    Neighbouring values along an edge are correlated: `1 + 2 * sum(rho_here * rho_there)` of them count as
    one. Parts that are blank in either edge do not count, and only independent channels do.
    """
    r = here.values[rows] @ there.values.T
    n_per_value = 1 + 2 * (here.autocorrelation[rows] @ there.autocorrelation.T)
    length = here.values.shape[1] / 3 * np.minimum.outer(here.texture[rows], there.texture)
    n = length / np.maximum(n_per_value, 1) * np.sqrt(np.multiply.outer(here.colours[rows], there.colours))
    z = np.arctanh(np.clip(r, -0.999999, 0.999999)) * np.sqrt(np.maximum(n - 3, 0))
    return r.astype(np.float64), z
