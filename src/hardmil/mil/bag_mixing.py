"""Training bags that are mixed from the pseudo-bags of two bags."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from hardmil.bags.bag import Bag
from hardmil.bags.clusters import cluster_instances
from hardmil.config.model import BagMixConfig, ResolvedModelConfig
from hardmil.errors import ConfigError

FIRST, SECOND = -2, -3
"""Numbers of the two slides of a mixed bag, which mined instances do not have."""


@dataclass(frozen=True, eq=False)
class BagMixer:
    """Mixes each training bag with another.

    A bag is divided into pseudo-bags that all have the same mix of tissue: its instances are clustered, and
    each cluster is dealt out to all pseudo-bags. A mixed bag has k of the n pseudo-bags of one bag, and with
    probability `chance` the number n - k of another; its label is k / n and (n - k) / n of theirs.

    Source: Liu et al. 2024 (PseMix). Departures: K-means on the instances of a bag instead of clusters by
    similarity to their mean; pixels are clustered by mean and deviation of their colours. As in the source, a
    mixed bag need not contain the lesion of the bag that it has its label from.
    """

    parts: dict[Bag, np.ndarray]
    config: BagMixConfig
    seed: int

    def mix(self, bag: Bag, other: Bag, *, generator: torch.Generator) -> tuple[Bag, float]:
        """A mixed bag and its label, from 0 to 1."""
        n = self.config.n_parts
        k = min(n, int(_draw_share(self.config.alpha, generator=generator) * (n + 1)))
        first = self._drawn(bag, k=k, generator=generator)
        second = self._drawn(other, k=n - k, generator=generator)
        joins = float(torch.rand((), generator=generator)) < self.config.chance
        if len(first) == 0 and len(second) == 0:  # possible in bags with fewer instances than pseudo-bags
            return bag, float(bag.label)
        if len(first) == 0:
            return other.take(second), float(other.label)
        if len(second) == 0 or not joins:
            return bag.take(first), float(bag.label)
        return _joined(bag.take(first), other.take(second)), (k * bag.label + (n - k) * other.label) / n

    def _drawn(self, bag: Bag, *, k: int, generator: torch.Generator) -> Int[np.ndarray, " kept"]:
        """The positions of the instances of k pseudo-bags."""
        parts = self.parts.get(bag)
        if parts is None:  # not a training bag, but one that mining adds
            parts = divided(bag, config=self.config, seed=self.seed)
        drawn = torch.randperm(self.config.n_parts, generator=generator)[:k].numpy()
        return np.flatnonzero(np.isin(parts, drawn))


def find_mixer(bags: Sequence[Bag], *, config: ResolvedModelConfig, seed: int) -> BagMixer | None:
    """The mixer of a training; None if bags are not mixed.

    Raises:
        ConfigError: If there are more than two classes, or the rank loss is on.
    """
    if config.bag_mix.n_parts == 0:
        return None
    if not config.task.is_binary or config.rank_loss.weight > 0:
        raise ConfigError(
            f"bag_mix.n_parts: {config.bag_mix.n_parts}, but a mixed bag has a label between 0 and 1; "
            "expected two classes and no rank loss; set bag_mix.n_parts to 0"
        )
    return BagMixer(
        {bag: divided(bag, config=config.bag_mix, seed=seed) for bag in bags}, config.bag_mix, seed
    )


def divided(bag: Bag, *, config: BagMixConfig, seed: int) -> Int[np.ndarray, " instance"]:
    """The pseudo-bag of each instance; each cluster of the bag is spread evenly over all pseudo-bags."""
    rng = np.random.default_rng(seed)
    clusters = cluster_instances(_appearance(bag), n_clusters=config.n_phenotypes, seed=seed)
    order = np.lexsort([rng.random(len(bag)), clusters])
    parts = np.empty(len(bag), dtype=np.int64)
    parts[order] = (rng.integers(config.n_parts) + np.arange(len(bag))) % config.n_parts
    return parts


def _appearance(bag: Bag) -> Float[np.ndarray, "instance dim"]:
    if bag.kind == "features":
        return bag.instances.astype(np.float32)
    colours = bag.instances.reshape(len(bag), -1, 3).astype(np.float32)
    return np.concatenate([colours.mean(axis=1), colours.std(axis=1)], axis=1)


def _draw_share(alpha: float, *, generator: torch.Generator) -> float:
    """A draw from Beta(alpha, alpha), with a seed from the generator."""
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _joined(bag: Bag, other: Bag) -> Bag:
    """One bag of the instances of both; its label is the higher one."""
    known = [(one.instance_labels, one.instance_weights) for one in (bag, other)]
    (labels, weights), (other_labels, other_weights) = known
    return replace(
        bag,
        slide_id=f"{bag.slide_id} and {other.slide_id}",
        label=max(bag.label, other.label),
        instances=np.concatenate([bag.instances, other.instances]),
        coords=np.concatenate([bag.coords, other.coords]),
        instance_labels=_filled(labels, other_labels, sizes=(len(bag), len(other)), missing=np.nan),
        instance_weights=_filled(weights, other_weights, sizes=(len(bag), len(other)), missing=1.0),
        instance_slides=np.repeat([FIRST, SECOND], [len(bag), len(other)]),
        weight=(bag.weight + other.weight) / 2,
    )


def _filled(
    first: np.ndarray | None, second: np.ndarray | None, *, sizes: tuple[int, int], missing: float
) -> np.ndarray | None:
    """Values of both bags, `missing` where one has none; None if neither has any."""
    if first is None and second is None:
        return None
    filled = [
        np.full(size, missing, np.float32) if values is None else values
        for values, size in zip((first, second), sizes, strict=True)
    ]
    return np.concatenate(filled)
