"""What the training slides were like, and how a new slide differs: number, size and colour of patches."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from hardmil.bags.bag import Bag

MIN_SHARE = 0.5
"""A slide with fewer patches than this share of the smallest training bag gets a warning."""
SIZE_TOLERANCE = 1.1
"""Patches this many times larger or smaller than all in training are from another resolution."""
FARTHEST_SHARE = 1.25
"""A slide this many times farther from the mean of training than any training slide gets a warning."""
MIN_SLIDES = 8
"""With fewer training slides, typical distances are unknown."""


class TrainingProfile(BaseModel):
    """Statistics of the training slides that a new slide is compared with.

    `fewest_patches` is the number of patches in the smallest bag. `sizes_level0_px` are the smallest and the
    largest edge of a patch in level-0 px, which depends on the scan resolution; None if coordinates are
    unknown. `mean` and `spread` (standard deviation) are over the mean instances of slides: colours of pixels
    (0 to 255), or features. `farthest` is the largest distance of a training slide from the mean: root mean
    squared deviation, in units of `spread`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_slides: int
    fewest_patches: int
    sizes_level0_px: tuple[int, int] | None
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    farthest: float

    def warnings(self, bag: Bag) -> list[str]:
        """How a slide differs from those of training, in words; empty if it does not."""
        return [one for one in (self._few(bag), self._size(bag), self._look(bag)) if one is not None]

    def _few(self, bag: Bag) -> str | None:
        if len(bag) >= MIN_SHARE * self.fewest_patches:
            return None
        return f"few patches: {len(bag)}; no training slide had fewer than {self.fewest_patches}"

    def _size(self, bag: Bag) -> str | None:
        if self.sizes_level0_px is None or bag.size_level0_px == 0:
            return None
        smallest, largest = self.sizes_level0_px
        if smallest / SIZE_TOLERANCE <= bag.size_level0_px <= largest * SIZE_TOLERANCE:
            return None
        known = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        return f"unusual mpp: its patches are {bag.size_level0_px} level-0 px wide, those of training {known}"

    def _look(self, bag: Bag) -> str | None:
        if self.n_slides < MIN_SLIDES:
            return None
        far = _distance(mean_instance(bag), np.array(self.mean), np.array(self.spread))
        if far <= FARTHEST_SHARE * self.farthest:
            return None
        what = "colour" if bag.kind == "pixels" else "features (colour, stain, scanner or tissue)"
        times = far / self.farthest
        return (
            f"{what} far from training: {times:.1f} times as far from its mean as the farthest training slide"
        )


def profile_of(bags: Sequence[Bag]) -> TrainingProfile:
    """The profile of these training slides."""
    means = np.stack([mean_instance(bag) for bag in bags])
    mean, spread = means.mean(axis=0), means.std(axis=0)
    # Without this, a channel that is nearly constant in training would warn about any other value.
    spread = np.maximum(spread, 0.05 * spread.max() + 1e-6)
    sizes = [bag.size_level0_px for bag in bags if bag.size_level0_px > 0]
    return TrainingProfile(
        n_slides=len(bags),
        fewest_patches=min(len(bag) for bag in bags),
        sizes_level0_px=(min(sizes), max(sizes)) if sizes else None,
        mean=tuple(mean.tolist()),
        spread=tuple(spread.tolist()),
        farthest=max(_distance(one, mean, spread) for one in means),
    )


def mean_instance(bag: Bag) -> Float[np.ndarray, " channel"]:
    """The mean colour of a bag's pixels, or the mean of its features."""
    axes = tuple(range(bag.instances.ndim - 1))
    return bag.instances.mean(axis=axes, dtype=np.float64)


def _distance(one: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> float:
    return float(np.sqrt((((one - mean) / spread) ** 2).mean()))
