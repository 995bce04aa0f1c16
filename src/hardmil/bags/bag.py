"""A bag: the instances of one slide, in memory."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from hardmil.bags.neighbours import neighbour_pairs
from hardmil.bags.provenance import UNKNOWN_PROVENANCE, Provenance
from hardmil.errors import BagError, EmptyBagError

LARGEST = 1e15
"""Largest size of a feature: the square of a larger one is beyond float32."""


@dataclass(frozen=True, eq=False)
class Bag:
    """The instances of one slide and their coordinates in level-0 pixels.

    `label` is the position of its class, from 0, or -1 if unknown; of two classes, 1 is positive. Where a bag
    may have several classes, bit k of the label says whether it has class k (`TaskConfig.multi_label`).

    `instances` are features, float16 or float32 (n, dim), or pixels, uint8 (n, height, width, 3). `coords`
    are int64 (n, 2): (x, y) of each patch's top-left corner, and `size_level0_px` is the edge of a patch. A
    size of 0 means that the coordinates are unknown (all 0).

    `instance_labels` are the known labels of single instances: 1 lesion, 0 normal, nan unknown;
    `instance_weights` are their weights in the instance loss. Both are float32 (n,), with more than two
    classes (n, branch), or None: no labels, equal weights. `instance_slides`, int64 (n,), tells apart the
    slides of a bag that has instances of several; None: all are of one. `provenance` is the encoder and the
    patches they were made from, as far as known. `weight` is the weight of the bag in its losses.

    Raises:
        EmptyBagError: If there are no instances.
        BagError: If the label is below -1, features are not finite, or an array has a wrong type or shape.
    """

    slide_id: str
    case_id: str
    label: int
    # Shapes are checked below and not by annotations, as these arrays may come from the user.
    instances: np.ndarray
    coords: np.ndarray
    size_level0_px: int
    instance_labels: np.ndarray | None = None
    instance_weights: np.ndarray | None = None
    provenance: Provenance = UNKNOWN_PROVENANCE
    instance_slides: np.ndarray | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if len(self.instances) == 0:
            raise EmptyBagError(
                f"slide {self.slide_id}: its bag has no patches; check its tissue, or leave it out"
            )
        if self.label != int(self.label) or self.label < -1:
            raise BagError(
                f"slide {self.slide_id}: label {self.label}; expected the position of its class, from 0, or "
                "-1 for unknown"
            )
        _check_instances(self.instances, slide_id=self.slide_id)
        if self.coords.shape != (len(self.instances), 2) or self.coords.dtype != np.int64:
            raise BagError(
                f"slide {self.slide_id}: {len(self.instances)} instances, but coords {self.coords.dtype} "
                f"{self.coords.shape}; expected int64 ({len(self.instances)}, 2); encode it again"
            )
        for name in ("instance_labels", "instance_weights", "instance_slides"):
            values = getattr(self, name)
            if values is not None and values.shape[:1] != (len(self.instances),):
                raise BagError(
                    f"slide {self.slide_id}: {len(self.instances)} instances, but {name} {values.shape}; "
                    f"expected ({len(self.instances)},), one for each instance"
                )

    def take(self, index: np.ndarray) -> "Bag":
        """The bag with only these instances."""
        labels, weights, slides = self.instance_labels, self.instance_weights, self.instance_slides
        return replace(
            self,
            instances=self.instances[index],
            coords=self.coords[index],
            instance_labels=None if labels is None else labels[index],
            instance_weights=None if weights is None else weights[index],
            instance_slides=None if slides is None else slides[index],
        )

    @cached_property
    def neighbours(self) -> np.ndarray:
        """Pairs of adjacent patches, int64 (2, pair), found once for each bag; see `neighbour_pairs`."""
        return neighbour_pairs(self.coords, size_level0_px=self.size_level0_px, slides=self.instance_slides)

    def index_by_corner(self) -> dict[tuple[int, int], int]:
        """The index of the instance with its top-left corner at (x, y)."""
        return {(int(x), int(y)): position for position, (x, y) in enumerate(self.coords)}

    @property
    def kind(self) -> Literal["pixels", "features"]:
        """Whether the instances are pixel patches or feature vectors."""
        return "pixels" if self.instances.dtype == np.uint8 else "features"

    def __len__(self) -> int:
        return len(self.instances)


def _check_instances(instances: np.ndarray, *, slide_id: str) -> None:
    shape, dtype = instances.shape, instances.dtype
    is_pixels = dtype == np.uint8 and len(shape) == 4 and shape[3] == 3
    is_features = dtype in (np.float16, np.float32) and len(shape) == 2 and shape[1] > 0
    if not (is_pixels or is_features):
        raise BagError(
            f"slide {slide_id}: instances are {dtype} {shape}; expected uint8 (n, height, width, 3), or "
            "float16 or float32 (n, dim); encode it again"
        )
    if is_pixels:
        return
    # Also true for NaN. As a float16, 1e15 would be infinite.
    limit = min(LARGEST, float(np.finfo(instances.dtype).max))
    broken = int(np.sum(~(np.abs(instances) <= limit).all(axis=1)))
    if broken:
        raise BagError(
            f"slide {slide_id}: {broken} of {len(instances)} instances have features that are NaN, infinite "
            f"or above {LARGEST:g}; expected numbers as encoders give them; encode it again, in float32 if "
            "it was float16"
        )
