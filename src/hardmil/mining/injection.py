"""Mined instances inside training bags, whose labels stay correct: as distractors, or with more weight."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.section import fingerprint
from hardmil.mining.hard_instances import HardInstance

WANTED_LABEL = {"positive": 1, "negative": 0}


@dataclass(frozen=True, eq=False)
class Distractors:
    """The `TrainingExtras` of inject: mined instances that are put into training bags at each step.

    All come from negative bags: a positive bag with some of them is still positive, a negative bag still
    negative, so every label stays correct. Ours; Li et al. 2019 make hard bags of them instead.
    """

    pool: Sequence[HardInstance]
    bags: Mapping[str, Bag]
    config: MiningConfig
    seed: int

    def draw(self, epoch: int) -> list[Bag]:
        """No bags are added."""
        return []

    def mix(self, bag: Bag, *, epoch: int) -> Bag:
        """The bag, at random with instances of the pool after its own, or in place of some of them.

        What is drawn depends only on seed, epoch and slide, not on the order of the bags.
        """
        rng = np.random.default_rng([self.seed, epoch, zlib.crc32(bag.slide_id.encode())])
        wanted = WANTED_LABEL.get(self.config.inject_into, bag.label)
        if bag.label != wanted or rng.random() >= self.config.inject_chance:
            return bag
        n = max(1, round(self.config.inject_share * len(bag)))
        drawn = rng.choice(len(self.pool), size=n, replace=True)
        kept = bag
        if self.config.inject_how == "replace":
            removed = rng.choice(len(bag), size=min(n, len(bag) - 1), replace=False)
            kept = bag.take(np.delete(np.arange(len(bag)), removed))
        own = np.full(len(kept), self._numbers.get(bag.slide_id, -1), dtype=np.int64)
        kept = replace(kept, instance_slides=own)
        slides = self._slides[drawn]
        return _appended(kept, instances=self._instances[drawn], coords=self._coords[drawn], slides=slides)

    def fingerprint(self) -> str:
        """Changes with anything that changes what is drawn."""
        keys = [one.key for one in self.pool]
        return fingerprint(["distractors", keys, self.config.hashed(), self.seed])

    def within(self, slide_ids: set[str]) -> "Distractors | None":
        """The same with only the instances of these slides; None if there are none."""
        pool = [one for one in self.pool if one.slide_id in slide_ids]
        return replace(self, pool=pool) if pool else None

    def cases(self) -> set[str]:
        """The cases that the instances are from."""
        return {one.case_id for one in self.pool}

    @cached_property
    def _instances(self) -> np.ndarray:
        return np.stack([self.bags[one.slide_id].instances[one.instance] for one in self.pool])

    @cached_property
    def _coords(self) -> np.ndarray:
        return np.array([(one.x, one.y) for one in self.pool], dtype=np.int64)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """A number for each slide of the pool."""
        return {slide_id: number for number, slide_id in enumerate(dict.fromkeys(self._slide_ids()))}

    @cached_property
    def _slides(self) -> np.ndarray:
        return np.array([self._numbers[slide_id] for slide_id in self._slide_ids()], dtype=np.int64)

    def _slide_ids(self) -> list[str]:
        return [one.slide_id for one in self.pool]


def weighed(bags: Sequence[Bag], *, pool: Sequence[HardInstance], weight: float | int) -> list[Bag]:
    """The bags; mined instances of negative bags have `weight` in the instance loss, all others 1. Ours."""
    mined: dict[str, list[int]] = {}
    for one in pool:
        mined.setdefault(one.slide_id, []).append(one.instance)
    return [
        _with_weights(bag, mined=mined[bag.slide_id], weight=weight)
        if bag.label == 0 and bag.slide_id in mined
        else bag
        for bag in bags
    ]


def _with_weights(bag: Bag, *, mined: list[int], weight: float | int) -> Bag:
    weights = np.ones(len(bag), dtype=np.float32)
    weights[mined] = weight
    return replace(bag, instance_weights=weights)


def _appended(bag: Bag, *, instances: np.ndarray, coords: np.ndarray, slides: np.ndarray) -> Bag:
    """The bag with further instances, without instance labels."""
    n = len(instances)
    labels, weights, own = bag.instance_labels, bag.instance_weights, bag.instance_slides
    return replace(
        bag,
        instances=np.concatenate([bag.instances, instances.astype(bag.instances.dtype)]),
        coords=np.concatenate([bag.coords, coords]),
        instance_labels=None if labels is None else np.append(labels, np.full(n, np.nan, np.float32)),
        instance_weights=None if weights is None else np.append(weights, np.ones(n, np.float32)),
        instance_slides=None if own is None else np.append(own, slides),
    )
