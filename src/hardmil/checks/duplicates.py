"""Detection of near-duplicate pictures and of adjacent tiles, which folds by case must not separate.

A picture of at most `FULL_PX` is read at level 0, a larger slide as a thumbnail of that edge. Only a small
`Signature` of it is kept, 60 to 170 KB, so that thousands of slides fit in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float16, Float32, UInt8

from hardmil.checks.abutting import Edge, Side, abutting_pairs, picture_edges
from hardmil.slides.slide import Slide

FULL_PX = 2048
"""Edge up to which a picture is compared pixel by pixel. For a larger one, the edges of the thumbnail are
compared, which finds halves of one scan if there is tissue at their border; blank edges match nothing."""

MIN_MATCH = 0.5
"""Minimum match score of near-duplicates. In the colon and UCSB sets (158 pictures), the most similar
different pictures have 0.39 (two nearly blank ones), then 0.26. Copies saved as JPEG of quality 60, randomly
rotated and flipped, have 0.94 or more; 0.67 if up to 2% are cropped from each side, 0.52 with 5%: 157 of 158
are found, and 153 with 8%. The missed one, img76, is blank."""

COARSE_PX, FINE_PX = 8, 96
MIN_COARSE = 0.4
"""Minimum correlation of the 8 x 8 colours of a pair to be compared in detail: the copies above have 0.64 or
more, nine in ten pairs of different pictures have less than 0.4."""

N_CANDIDATES = 3
"""How many similar pictures each picture is compared with in detail; in all tests, a copy came first."""

TREND_SHARE, MIN_CONTRAST, MIN_TEXTURE = 1 / 16, 4.0, 0.05
"""For the 96-px picture: width of the smooth trend that is subtracted, as a share of its edge; contrast (of
255) below which a pixel is blank; minimum share that is not blank."""

CORE_SHARE = 0.7
SCALES = np.arange(0.80, 1.21, 0.02)
"""The middle 70% of one picture is searched for in the other at these scales, as a copy may be cropped."""

TURNS = (
    *("as it is", "turned 90°", "turned 180°", "turned 270°"),
    *("flipped", "turned 90° and flipped", "turned 180° and flipped", "turned 270° and flipped"),
)
"""How the second picture was made from the first; rotations are clockwise, a flip swaps left and right."""

_ROWS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Signature:
    """What is kept of a picture: edges that are not blank, coarse colours (normalised to length 1), detail.

    The last two are None for a blank picture.
    """

    edges: Mapping[Side, Edge]
    coarse: Float32[np.ndarray, "coarse coarse 3"] | None
    fine: Float16[np.ndarray, "fine fine 3"] | None


@dataclass(frozen=True)
class ImageMatch:
    """Positions of two pictures, first < second for near-duplicates, and how they are related.

    `how` is the relation of the second to the first: "right of", "below", or one of TURNS.
    `score` is a correlation.
    """

    first: int
    second: int
    kind: Literal["near-duplicate", "abutting"]
    how: str
    score: float


def slide_signature(slide: Slide) -> Signature:
    """The signature of an open slide, from its pixels or, for a large slide, from its thumbnail.

    Raises:
        SlideError: If the slide cannot be read.
    """
    return picture_signature(slide.thumbnail(FULL_PX))


def picture_signature(rgb: UInt8[np.ndarray, "height width 3"]) -> Signature:
    """The signature of a picture."""
    import cv2

    coarse, fine = (
        cv2.resize(rgb, (px, px), interpolation=cv2.INTER_AREA).astype(np.float32)
        for px in (COARSE_PX, FINE_PX)
    )
    coarse -= coarse.mean(axis=(0, 1))
    detail = _detail(fine)
    if detail is None or not coarse.any():
        return Signature(picture_edges(rgb), None, None)
    return Signature(picture_edges(rgb), coarse / np.linalg.norm(coarse), detail.astype(np.float16))


def _detail(picture: Float32[np.ndarray, "row column 3"]) -> Float32[np.ndarray, "row column 3"] | None:
    """A picture minus its smooth trend, divided by its local contrast; None if it is nearly all blank."""
    import cv2

    sigma = TREND_SHARE * len(picture)
    detail = picture - cv2.GaussianBlur(picture, (0, 0), sigma)
    contrast = np.sqrt(cv2.GaussianBlur((detail**2).mean(axis=2), (0, 0), sigma))
    if np.mean(contrast > MIN_CONTRAST) < MIN_TEXTURE:
        return None
    return detail / np.maximum(contrast, MIN_CONTRAST)[..., None]


def matching_pairs(signatures: Sequence[Signature]) -> list[ImageMatch]:
    """Near-duplicates, then adjacent pictures, most certain first; each pair is listed once.

    Near-duplicates may be recompressed, resized, flipped, rotated by quarter turns, or cropped by up to 5% on
    each side; pictures that share only a part are not found. Candidates are chosen by coarse colours, 8 n^2
    products of 192 numbers in blocks of 512 rows; then 3 candidates for each picture are compared in detail,
    4 ms each. For adjacent pictures see `abutting_pairs`.
    """
    duplicates = near_duplicates(signatures)
    known = {(pair.first, pair.second) for pair in duplicates}
    tiles = [
        ImageMatch(pair.first, pair.second, "abutting", pair.direction, pair.correlation)
        for pair in abutting_pairs([signature.edges for signature in signatures])
        # A flipped copy also continues the edges of its original.
        if (min(pair.first, pair.second), max(pair.first, pair.second)) not in known
    ]
    return [*duplicates, *tiles]


def near_duplicates(signatures: Sequence[Signature]) -> list[ImageMatch]:
    """The pairs of near-duplicates, most certain first."""
    found: list[ImageMatch] = []
    for first, second, turn in sorted(set(_candidates(signatures))):
        a, b = signatures[first].fine, signatures[second].fine
        if a is None or b is None:
            continue
        score = _match(a.astype(np.float32), _orientations(b.astype(np.float32))[turn])
        if score >= MIN_MATCH:
            found.append(ImageMatch(first, second, "near-duplicate", TURNS[turn], score))
    return sorted(found, key=lambda pair: (-pair.score, pair.first, pair.second))


def _orientations(picture: Float[np.ndarray, "row column 3"]) -> list[Float[np.ndarray, "row column 3"]]:
    """A square picture with each of TURNS undone: first the flip, then the rotation, anticlockwise."""
    return [np.ascontiguousarray(np.rot90(one, k)) for one in (picture, picture[:, ::-1]) for k in range(4)]


def _candidates(signatures: Sequence[Signature]) -> Iterator[tuple[int, int, int]]:
    """(first, second, orientation of the second) of the pairs that are most similar in coarse colours."""
    positions = [i for i, signature in enumerate(signatures) if signature.coarse is not None]
    pictures = [c for signature in signatures if (c := signature.coarse) is not None]
    if len(pictures) < 2:
        return
    plain = np.stack([picture.ravel() for picture in pictures])
    turned = np.stack([[one.ravel() for one in _orientations(picture)] for picture in pictures])
    n_best = min(N_CANDIDATES, len(pictures) - 1)
    for start in range(0, len(plain), _ROWS_AT_ONCE):
        # Row, orientation, column; one orientation at a time, to keep the block small.
        similarity = np.stack(
            [plain[start : start + _ROWS_AT_ONCE] @ turned[:, k].T for k in range(len(TURNS))]
        )
        best = similarity.max(axis=0)
        best[np.arange(len(best)), start + np.arange(len(best))] = -np.inf
        for row, columns in enumerate(np.argpartition(-best, n_best - 1, axis=1)[:, :n_best]):
            for column in map(int, columns):
                if best[row, column] >= MIN_COARSE:
                    yield _pair(positions, start + row, column, int(similarity[:, row, column].argmax()))


def _pair(positions: Sequence[int], first: int, second: int, turn: int) -> tuple[int, int, int]:
    """The pair with the lower position first; when swapped, a quarter turn becomes the opposite one."""
    if first < second:
        return positions[first], positions[second], turn
    return positions[second], positions[first], (0, 3, 2, 1, 4, 5, 6, 7)[turn]


def _match(a: Float32[np.ndarray, "row column 3"], b: Float32[np.ndarray, "row column 3"]) -> float:
    """How well the middle of each picture is found in the other, by correlation; the lower of the two."""
    one_way = _find_core(a, b)
    return one_way if one_way < MIN_MATCH else min(one_way, _find_core(b, a))


def _find_core(a: Float32[np.ndarray, "row column 3"], b: Float32[np.ndarray, "row column 3"]) -> float:
    import cv2

    margin = round(len(a) * (1 - CORE_SHARE) / 2)
    core = np.ascontiguousarray(a[margin:-margin, margin:-margin])
    best = -1.0
    for scale in SCALES:
        px = round(len(core) * float(scale))
        scaled = cv2.resize(core, (px, px), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        best = max(best, float(cv2.matchTemplate(b, scaled, cv2.TM_CCOEFF_NORMED).max()))
    return best
