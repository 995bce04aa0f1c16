"""From hard instances to hard bags: SB, MB, FMB. A hard bag is a list of instances, not a copy of pixels."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.section import fingerprint
from hardmil.mining.hard_instances import HardInstance

ClusterWeights = Literal["size", "equal", "stratified"]
# Above this number of instances, K-means uses mini-batches.


@dataclass(frozen=True)
class HardBag:
    """A bag of mined instances, all of negative bags: (slide_id, instance) pairs, which may repeat."""

    name: str
    instances: tuple[tuple[str, int], ...]

    def gather(self, bags: Mapping[str, Bag], *, label: int = 0) -> Bag:
        """The bag itself, with this label; its instances are taken from the bags of the slides, by id."""
        parts = [(bags[slide_id], instance) for slide_id, instance in self.instances]
        numbers = {slide_id: number for number, slide_id in enumerate(bags)}
        return Bag(
            slide_id=self.name,
            case_id=self.name,
            label=label,
            instances=np.stack([bag.instances[j] for bag, j in parts]),
            coords=np.stack([bag.coords[j] for bag, j in parts]),
            size_level0_px=parts[0][0].size_level0_px,
            instance_slides=np.array([numbers[slide_id] for slide_id, _ in self.instances], dtype=np.int64),
        )


def single_bag(pool: Sequence[HardInstance]) -> HardBag:
    """SB: one bag of all hard instances.

    Source: Li et al. 2019, Section 2.3.
    """
    return HardBag("hard-bag-0", tuple(one.key for one in pool))


def random_bags(
    pool: Sequence[HardInstance],
    *,
    n_bags: int,
    training_sizes: Int[np.ndarray, " bag"],
    rng: np.random.Generator,
    replacement: bool = True,
) -> list[HardBag]:
    """MB: several bags, instances drawn at random from all hard instances.

    Source: Li et al. 2019, Section 2.3.
    """
    one_cluster = np.zeros(len(pool), dtype=np.int64)
    return clustered_bags(
        pool,
        clusters=one_cluster,
        n_bags=n_bags,
        training_sizes=training_sizes,
        rng=rng,
        replacement=replacement,
    )


def clustered_bags(
    pool: Sequence[HardInstance],
    *,
    clusters: Int[np.ndarray, " hard"],
    n_bags: int,
    training_sizes: Int[np.ndarray, " bag"],
    rng: np.random.Generator,
    cluster_weights: ClusterWeights = "size",
    replacement: bool = True,
) -> list[HardBag]:
    """FMB: several bags, each instance drawn by picking a cluster, then an instance of it.

    Args:
        pool: The hard instances.
        clusters: The cluster of each hard instance.
        n_bags: Number of bags to draw.
        training_sizes: Sizes of the training bags; a hard bag's size is drawn from N(mean, std) of them and
            clipped to their smallest and largest.
        rng: Random number generator.
        cluster_weights: `size` picks cluster j with probability N_j / N, as in the paper; every instance then
            has the same probability, so that FMB equals MB. `equal` gives every cluster the same probability.
            `stratified` takes the share N_j / N of each bag from cluster j, instead of at random.
        replacement: Whether a bag may contain an instance twice; if not, a bag is at most as large as the
            pool.

    Source: Li et al. 2019, Section 2.3. Departures: `equal` and `stratified`.
    """
    sizes = hard_bag_sizes(training_sizes, n_bags=n_bags, rng=rng)
    bags: list[HardBag] = []
    for number, size in enumerate(sizes):
        n = int(size) if replacement else min(int(size), len(pool))
        if cluster_weights == "stratified":
            drawn = _draw_by_quota(clusters, n=n, rng=rng, replacement=replacement)
        else:
            probabilities = instance_probabilities(clusters, cluster_weights=cluster_weights)
            drawn = rng.choice(len(pool), size=n, replace=replacement, p=probabilities)
        bags.append(HardBag(f"hard-bag-{number}", tuple(pool[int(i)].key for i in drawn)))
    return bags


def hard_bag_sizes(
    training_sizes: Int[np.ndarray, " bag"], *, n_bags: int, rng: np.random.Generator
) -> Int[np.ndarray, " hard_bag"]:
    """Sizes drawn from N(mean, std) of the training bags' sizes, clipped to their smallest and largest.

    Source: Li et al. 2019, Section 2.3.
    """
    drawn = rng.normal(training_sizes.mean(), training_sizes.std(), size=n_bags)
    return np.clip(np.rint(drawn), training_sizes.min(), training_sizes.max()).astype(np.int64)


def instance_probabilities(
    clusters: Int[np.ndarray, " hard"], *, cluster_weights: ClusterWeights
) -> Float[np.ndarray, " hard"]:
    """Probability of each instance: that of its cluster, P_j, divided by the size of its cluster, N_j.

    The two steps of the paper, cluster then instance, are one draw with these probabilities.
    """
    _, index, counts = np.unique(clusters, return_inverse=True, return_counts=True)
    by_size = counts / counts.sum()
    cluster_probabilities = np.full(len(counts), 1 / len(counts)) if cluster_weights == "equal" else by_size
    return (cluster_probabilities / counts)[index]


def _draw_by_quota(
    clusters: Int[np.ndarray, " hard"], *, n: int, rng: np.random.Generator, replacement: bool
) -> Int[np.ndarray, " drawn"]:
    """Positions of n instances, from each cluster in proportion to its size (largest remainder method)."""
    names, counts = np.unique(clusters, return_counts=True)
    quota, remainder = np.divmod(n * counts, counts.sum())
    quota[np.argsort(-remainder, kind="stable")[: n - quota.sum()]] += 1
    parts = [
        rng.choice(np.flatnonzero(clusters == name), size=k, replace=replacement)
        for name, k in zip(names, quota, strict=True)
    ]
    return rng.permutation(np.concatenate(parts))


@dataclass(frozen=True, eq=False)
class HardBags:
    """The `TrainingExtras` of sb, mb and fmb: all that the hard bags of a training run depend on."""

    pool: Sequence[HardInstance]
    bags: Mapping[str, Bag]
    n_bags: int
    config: MiningConfig
    seed: int
    label: int = 0
    """That of the negative class."""

    def plan(self, epoch: int) -> list[HardBag]:
        """The hard bags of an epoch as lists of instances; the same in every epoch unless redrawn."""
        rng = np.random.default_rng([self.seed, epoch if self.config.redraw == "epoch" else 0])
        sizes = np.array([len(bag) for bag in self.bags.values()])
        replacement = self.config.replacement
        match self.config.use:
            case "sb":
                return [single_bag(self.pool)]
            case "mb":
                return random_bags(
                    self.pool, n_bags=self.n_bags, training_sizes=sizes, rng=rng, replacement=replacement
                )
            case _:
                return clustered_bags(
                    self.pool,
                    clusters=np.array([one.cluster for one in self.pool]),
                    n_bags=self.n_bags,
                    training_sizes=sizes,
                    rng=rng,
                    cluster_weights=self.config.cluster_weights,
                    replacement=replacement,
                )

    def draw(self, epoch: int) -> list[Bag]:
        """The hard bags of an epoch, with their instances."""
        return [hard_bag.gather(self.bags, label=self.label) for hard_bag in self.plan(epoch)]

    def mix(self, bag: Bag, *, epoch: int) -> Bag:
        """The bag, unchanged."""
        return bag

    def cases(self) -> set[str]:
        """The cases that the instances are from."""
        return {one.case_id for one in self.pool}

    def fingerprint(self) -> str:
        """Changes with anything that changes what is drawn."""
        drawn = [(one.slide_id, one.instance, one.cluster) for one in self.pool]
        return fingerprint([drawn, self.n_bags, self.config.hashed(), self.seed])

    def within(self, slide_ids: set[str]) -> "HardBags | None":
        """The same with only the instances of these slides; None if there are none."""
        pool = [one for one in self.pool if one.slide_id in slide_ids]
        bags = {name: bag for name, bag in self.bags.items() if name in slide_ids}
        return replace(self, pool=pool, bags=bags) if pool else None
