"""What the training slides were like, and in what a new one is not: its patches' number, size, colour."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from hardmil.bags.bag import Bag

MIN_SHARE = 0.5
"""A slide with fewer than this share of the smallest training bag's patches is called small."""
SIZE_TOLERANCE = 1.1
"""Patches this many times larger or smaller than any in training come of another resolution."""
FARTHEST_SHARE = 1.25
"""A slide this many times farther from the middle of training than any slide of it is called unlike them."""
MIN_SLIDES = 8
"""Of fewer training slides, how far apart slides are is not known."""


class TrainingProfile(BaseModel):
    """The training slides, so far as a new slide is compared with them.

    `fewest_patches` is of the smallest bag. `sizes_level0_px` are the smallest and the largest edge of a
    patch, in level-0 px, which says how fine the slides were scanned; None where places are not known. `mean`
    and `spread` are of the slides' mean instances: colours of pixels (0 to 255), else features. `farthest` is
    the distance of the slide farthest from the middle: root of the mean squared deviation, in spreads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_slides: int
    fewest_patches: int
    sizes_level0_px: tuple[int, int] | None
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    farthest: float

    def warnings(self, bag: Bag) -> list[str]:
        """In what a slide is unlike those the model was trained on, in words; empty if in nothing."""
        return [one for one in (self._few(bag), self._size(bag), self._look(bag)) if one is not None]

    def _few(self, bag: Bag) -> str | None:
        if len(bag) >= MIN_SHARE * self.fewest_patches:
            return None
        return f"few patches: {len(bag)}, no training slide had fewer than {self.fewest_patches}"

    def _size(self, bag: Bag) -> str | None:
        if self.sizes_level0_px is None or bag.size_level0_px == 0:
            return None
        smallest, largest = self.sizes_level0_px
        if smallest / SIZE_TOLERANCE <= bag.size_level0_px <= largest * SIZE_TOLERANCE:
            return None
        known = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        return f"odd mpp: its patches are {bag.size_level0_px} level-0 px wide, those of training {known}"

    def _look(self, bag: Bag) -> str | None:
        if self.n_slides < MIN_SLIDES:
            return None
        far = _distance(mean_instance(bag), np.array(self.mean), np.array(self.spread))
        if far <= FARTHEST_SHARE * self.farthest:
            return None
        what = "colour" if bag.kind == "pixels" else "features (colour, stain, scanner or tissue)"
        times = far / self.farthest
        return f"{what} far from training: {times:.1f} times as far from its middle as its farthest slide"


def profile_of(bags: Sequence[Bag]) -> TrainingProfile:
    """What these training slides were like."""
    means = np.stack([mean_instance(bag) for bag in bags])
    mean, spread = means.mean(axis=0), means.std(axis=0)
    # A channel that is all but the same in every slide would be a reason to warn of any other value.
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
