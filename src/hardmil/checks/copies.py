"""Detection of bags with the same content: one slide under two ids, also where it was encoded again."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Float32, Int64

from hardmil.bags.bag import Bag
from hardmil.words import count

N_DIRECTIONS, N_KEPT = 32, 64
"""Number of fixed random directions in which the extreme instances of a bag are found, and number of values
that are kept of each, as random projections."""

MAX_RATIO = 0.5
"""How much closer the extreme instances of copies are than those of other bags: see `similar_bags`."""

MIN_SHARE = 0.3
"""Minimum share of extreme instances that two copies have in common."""

N_COPIES = 4
"""A slide may have this many copies; the next nearest bag is the standard of comparison."""

REFERENCE_SHARE = 0.1
"""In larger studies, the standard is the distance below which this share of all bags is."""

IDENTICAL: Final = "identical"

_PICTURE_PX = 8
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class BagSignature:
    """What is kept of a bag: a digest, and its extreme instances in fixed directions, with their weights.

    The weights sum to 1; an instance that is extreme in several directions counts once.
    """

    digest: bytes
    extremes: Float32[np.ndarray, "direction value"]
    weights: Float32[np.ndarray, " direction"]


@dataclass(frozen=True)
class BagMatch:
    """Positions of two bags, first < second, and the share of extreme instances that they have in common."""

    first: int
    second: int
    kind: Literal["identical", "nearly identical"]
    share: float


def bag_signature(bag: Bag) -> BagSignature:
    """The signature of a bag: 17 KB. The order of the instances does not matter."""
    vectors = _vectors(bag)
    directions, projection = _random_axes(vectors.shape[1])
    along = vectors @ directions
    chosen = np.concatenate([along.argmax(axis=0), along.argmin(axis=0)])
    _, inverse, counts = np.unique(chosen, return_inverse=True, return_counts=True)
    weights = 1 / (counts[inverse] * len(counts))
    digest = hashlib.blake2b(np.ascontiguousarray(bag.instances).data, digest_size=16).digest()
    return BagSignature(digest, vectors[chosen] @ projection, weights.astype(np.float32))


@lru_cache(maxsize=1)
def _random_axes(dim: int) -> tuple[Float32[np.ndarray, "dim axis"], Float32[np.ndarray, "dim value"]]:
    """The directions, and the projection to fewer values; the same for all bags of a study."""
    rng = np.random.default_rng(dim)
    directions, projection = (rng.normal(size=(dim, n)).astype(np.float32) for n in (N_DIRECTIONS, N_KEPT))
    return directions, projection


def _vectors(bag: Bag) -> Float32[np.ndarray, "instance dim"]:
    """Features as they are; of pixels, the colours of an 8 x 8 picture."""
    if bag.kind == "features":
        return bag.instances.astype(np.float32)
    import cv2

    size = (_PICTURE_PX, _PICTURE_PX)
    small = [cv2.resize(one, size, interpolation=cv2.INTER_AREA).ravel() for one in bag.instances]
    return np.stack(small).astype(np.float32)


def similar_bags(signatures: Sequence[BagSignature]) -> list[BagMatch]:
    """The pairs of bags with the same content, most certain first.

    Two bags are nearly identical if MIN_SHARE of their extreme instances are the same. Two instances that are
    extreme in the same direction are the same if they are closer than MAX_RATIO of what is usual: of the
    distance to the extreme instance of the fifth nearest bag, or, of more than 50 bags, of the last of the
    nearest tenth. So blank patches and pen, which many slides have, do not count. All bags are compared with
    all, in blocks of 512 rows. Of fewer than three bags there is no standard: only identical ones are found.
    """
    found = [BagMatch(a, b, IDENTICAL, 1.0) for a, b in _identical(signatures)]
    shares = {(i, j): share for i, j, share in _shares(signatures)}
    near = [
        BagMatch(i, j, "nearly identical", min(share, shares[j, i]))
        for (i, j), share in shares.items()
        if i < j and (j, i) in shares and signatures[i].digest != signatures[j].digest
    ]
    return [*found, *sorted(near, key=lambda one: (-one.share, one.first, one.second))]


def _identical(signatures: Sequence[BagSignature]) -> Iterator[tuple[int, int]]:
    """Each bag with the first one that has the same instances in the same order."""
    first: dict[bytes, int] = {}
    for position, one in enumerate(signatures):
        other = first.setdefault(one.digest, position)
        if other != position:
            yield other, position


def _shares(signatures: Sequence[BagSignature]) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j) with the share of the extreme instances of i that j has, where it is high enough."""
    n = len(signatures)
    if n < 3:
        return
    extremes = np.stack([one.extremes for one in signatures], axis=1)
    extremes -= extremes.mean(axis=1, keepdims=True)
    weights = np.stack([one.weights for one in signatures])
    for start in range(0, n, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, n))
        share = np.zeros((len(rows), n), np.float32)
        for one, weight in zip(extremes, weights.T, strict=True):
            share += _are_same(one, rows) * weight[rows, None]
        for i, j in np.argwhere(share >= MIN_SHARE):
            yield int(rows[i]), int(j), float(share[i, j])


def _are_same(extremes: Float32[np.ndarray, "bag value"], rows: Int64[np.ndarray, " row"]) -> np.ndarray:
    """Which bags have the same extreme instance in one direction as the bags of these rows, (row, bag)."""
    distance = _distances(extremes, rows)
    n_others = len(extremes) - 1
    rank = min(n_others - 1, max(N_COPIES, int(REFERENCE_SHARE * n_others)))
    usual = np.partition(distance, rank, axis=1)[:, rank, None]
    return distance < MAX_RATIO * usual


def _distances(
    extremes: Float32[np.ndarray, "bag value"], rows: Int64[np.ndarray, " row"]
) -> Float[np.ndarray, "row bag"]:
    """Distances of the bags of these rows to all; infinite to themselves."""
    squares = (extremes**2).sum(axis=1)
    squared = squares[rows, None] + squares - 2 * extremes[rows] @ extremes.T
    squared[np.arange(len(rows)), rows] = np.inf
    return np.sqrt(np.maximum(squared, 0))


def notes_on_copies(bags: Iterable[Bag]) -> list[str]:
    """A note for the user on bags of different cases with the same content; empty if there are none."""
    bags = list(bags)
    pairs = [
        (bags[one.first], bags[one.second]) for one in similar_bags([bag_signature(bag) for bag in bags])
    ]
    leaks = [(a, b) for a, b in pairs if a.case_id != b.case_id]
    if not leaks:
        return []
    a, b = leaks[0]
    return [
        f"note: {count(len(leaks), 'pair')} of slides in different cases with identical or nearly identical "
        f"patches, so a model may be tested on a slide that it was trained on: first {a.slide_id} (case "
        f"{a.case_id}) and {b.slide_id} (case {b.case_id}); `hardmil doctor` lists them; give both slides of "
        "a pair one case_id, or remove one"
    ]
