"""Mined instances inside training bags, whose labels stay correct: as distractors, or with more weight."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.section import fingerprint
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.mining.hard_instances import HardInstance


@dataclass(frozen=True, eq=False)
class Distractors:
    """The `TrainingExtras` of inject: mined instances that are put into training bags at each step.

    All come from negative bags: a positive bag with some of them is still positive, a negative bag still
    negative, so every label stays correct. Ours; Li et al. 2019 make hard bags of them instead. With more
    than two classes, a bag takes only instances with which it keeps its label (`TaskConfig.may_hold`).
    """

    pool: Sequence[HardInstance]
    bags: Mapping[str, Bag]
    config: MiningConfig
    seed: int
    task: TaskConfig = TWO_CLASSES

    def draw(self, epoch: int) -> list[Bag]:
        """No bags are added."""
        return []

    def mix(self, bag: Bag, *, epoch: int) -> Bag:
        """The bag, at random with instances of the pool after its own, or in place of some of them.

        What is drawn depends only on seed, epoch and slide, not on the order of the bags.
        """
        rng = np.random.default_rng([self.seed, epoch, zlib.crc32(bag.slide_id.encode())])
        suitable = self._suitable.get(bag.label, ())
        if len(suitable) == 0 or rng.random() >= self.config.inject_chance:
            return bag
        n = max(1, round(self.config.inject_share * len(bag)))
        drawn = suitable[rng.choice(len(suitable), size=n, replace=True)]
        kept = bag
        if self.config.inject_how == "replace":
            removed = rng.choice(len(bag), size=min(n, len(bag) - 1), replace=False)
            kept = bag.take(np.delete(np.arange(len(bag)), removed))
        if kept.instance_slides is None:
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
    def _suitable(self) -> dict[int, np.ndarray]:
        """The positions in the pool of the instances that may be put into a bag, by its label.

        Into "positive" bags: those of another class than the bag of the instance; "negative": of the same.
        """
        sources = np.array([self.bags[one.slide_id].label for one in self.pool])
        found: dict[int, np.ndarray] = {}
        for label in {bag.label for bag in self.bags.values()}:
            may = np.array([self.task.may_hold(label, source=int(source)) for source in sources])
            if self.config.inject_into != "both":
                may &= (sources == label) == (self.config.inject_into == "negative")
            found[label] = np.flatnonzero(may)
        return found

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


def weighed(
    bags: Sequence[Bag],
    *,
    pool: Sequence[HardInstance],
    weight: float | int,
    task: TaskConfig = TWO_CLASSES,
) -> list[Bag]:
    """The bags; mined instances of negative bags have `weight` in the instance loss, all others 1. Ours.

    With more than two classes, a mined instance has it in the branch of the class that it is hard for.
    """
    labels = {bag.slide_id: bag.label for bag in bags}
    mined: dict[str, list[HardInstance]] = {}
    for one in pool:
        if task.is_free(labels.get(one.slide_id, -1), branch=task.branch_names.index(one.hard_for)):
            mined.setdefault(one.slide_id, []).append(one)
    return [
        _with_weights(bag, mined=mined[bag.slide_id], weight=weight, task=task)
        if bag.slide_id in mined
        else bag
        for bag in bags
    ]


def _with_weights(bag: Bag, *, mined: list[HardInstance], weight: float | int, task: TaskConfig) -> Bag:
    weights = np.ones((len(bag), task.n_branches), dtype=np.float32)
    for one in mined:
        weights[one.instance, task.branch_names.index(one.hard_for)] = weight
    return replace(bag, instance_weights=weights[:, 0] if task.is_binary else weights)


def _appended(bag: Bag, *, instances: np.ndarray, coords: np.ndarray, slides: np.ndarray) -> Bag:
    """The bag with further instances, without instance labels."""
    n = len(instances)
    labels, weights, own = bag.instance_labels, bag.instance_weights, bag.instance_slides
    return replace(
        bag,
        instances=np.concatenate([bag.instances, instances.astype(bag.instances.dtype)]),
        coords=np.concatenate([bag.coords, coords]),
        instance_labels=None if labels is None else _longer(labels, n=n, value=np.nan),
        instance_weights=None if weights is None else _longer(weights, n=n, value=1.0),
        instance_slides=None if own is None else np.append(own, slides),
    )


def _longer(values: np.ndarray, *, n: int, value: float) -> np.ndarray:
    """Values of instances, with the same value for n more."""
    return np.concatenate([values, np.full((n, *values.shape[1:]), value, np.float32)])
