"""The instances that fooled the model: Eq. 3 in false-positive bags, with their origin."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from hardmil.bags.bag import Bag
from hardmil.config.mining import Threshold, parse_sensitivity
from hardmil.errors import BagError, EmptyBagError
from hardmil.metrics import threshold_at_sensitivity
from hardmil.mil.bag_score import BagScore
from hardmil.mil.inference import bag_scores
from hardmil.mil.pooling import FLAT_TOLERANCE


@dataclass(frozen=True)
class HardInstance:
    """One mined instance: where it is, and why it was mined. Its fields are columns of hard_negatives.csv.

    `hard_for` is the class that its bag was called and is not; empty where there are two classes.
    """

    round: int
    slide_id: str
    case_id: str
    instance: int
    x: int
    y: int
    size_level0: int
    attention: float
    bag_score: float
    cluster: int
    source: str
    hard_for: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Slide and instance."""
        return self.slide_id, self.instance


def hard_instances(
    attention: Float[np.ndarray, " instance"], *, n_sigma: float = 1.0
) -> Int[np.ndarray, " hard"]:
    """Indices of the instances with the most attention in one bag, hardest first.

    An instance is hard when its attention is at least mean + n_sigma * std over its bag (population std).

    Raises:
        EmptyBagError: If the bag has no instance.
        BagError: If attention is NaN or infinite.

    Source: Li et al. 2019, Eq. 3. Departure: flat attention (std = 0 up to rounding) gives no instance; read
    literally, Eq. 3 would give the whole bag.
    """
    if len(attention) == 0:
        raise EmptyBagError("attention of a bag without instances; expected at least one; leave the bag out")
    broken = int(np.sum(~np.isfinite(attention)))
    if broken:
        raise BagError(
            f"attention: {broken} of {len(attention)} values are NaN or infinite; expected numbers; training "
            "probably diverged: lower training.lr and train again"
        )
    # In float64 with a margin: of two instances, the higher one is exactly at mean + std, and rounding must
    # not decide whether it is hard.
    w = attention.astype(np.float64)
    margin = FLAT_TOLERANCE * w.mean()
    if w.std() < margin:
        return np.array([], dtype=np.int64)
    hard = np.flatnonzero(w >= w.mean() + n_sigma * w.std() - margin)
    return hard[np.argsort(-w[hard], kind="stable")]


def false_positive_bags(
    bags: Sequence[Bag], *, scores: Sequence[BagScore], threshold: Threshold
) -> list[int]:
    """Indices of the negative bags scored positive.

    A score above the threshold is positive; with "sensitivity=0.95", a score that is at least as high as the
    one reached by 95% of the positive bags.

    Raises:
        BagError: If a score, attention or an instance logit of any bag is NaN or infinite.
    """
    for bag, score in zip(bags, scores, strict=True):
        score.check(bag.slide_id)
    limit = _limit(bags, scores=scores, threshold=threshold)
    return [
        i
        for i, (bag, score) in enumerate(zip(bags, scores, strict=True))
        if bag.label == 0 and score.bag_score > limit
    ]


def _limit(bags: Sequence[Bag], *, scores: Sequence[BagScore], threshold: Threshold) -> float:
    sensitivity = parse_sensitivity(threshold)
    if sensitivity is None:
        return float(threshold)
    labels = np.array([bag.label for bag in bags])
    values = bag_scores(scores)
    reached = threshold_at_sensitivity(labels, values, sensitivity=sensitivity)
    return float(np.nextafter(reached, -np.inf))


def mine_instances(
    bags: Sequence[Bag], *, scores: Sequence[BagScore], n_sigma: float, number: int, source: str
) -> list[HardInstance]:
    """The hard instances of these false-positive bags, bag by bag, hardest first.

    Args:
        bags: False-positive bags.
        scores: The output of the model that called them positive.
        n_sigma: Number of standard deviations in Eq. 3.
        number: The round of mining, from 1.
        source: Which model that was: train, out-of-fold or bundle.

    Raises:
        BagError: If a score, attention or an instance logit is NaN or infinite.
    """
    for bag, score in zip(bags, scores, strict=True):
        score.check(bag.slide_id)
    return [
        _record(bag, instance=int(j), score=score, number=number, source=source)
        for bag, score in zip(bags, scores, strict=True)
        for j in hard_instances(score.attention, n_sigma=n_sigma)
    ]


def mine_instances_above(
    bags: Sequence[Bag],
    *,
    scores: Sequence[BagScore],
    threshold: Threshold,
    n_sigma: float,
    source: str,
) -> list[HardInstance]:
    """The hard instances of the bags that `false_positive_bags` finds, as `mine_instances` gives them."""
    wrong = false_positive_bags(bags, scores=scores, threshold=threshold)
    return mine_instances(
        [bags[i] for i in wrong],
        scores=[scores[i] for i in wrong],
        n_sigma=n_sigma,
        number=1,
        source=source,
    )


def _record(bag: Bag, *, instance: int, score: BagScore, number: int, source: str) -> HardInstance:
    """The record of one instance of a bag; its cluster is not known yet (-1)."""
    return HardInstance(
        round=number,
        slide_id=bag.slide_id,
        case_id=bag.case_id,
        instance=instance,
        x=int(bag.coords[instance, 0]),
        y=int(bag.coords[instance, 1]),
        size_level0=bag.size_level0_px,
        attention=float(score.attention[instance]),
        bag_score=score.bag_score,
        cluster=-1,
        source=source,
    )


def random_instances(
    bags: Sequence[Bag],
    *,
    scores: Sequence[BagScore],
    n: int,
    number: int,
    seed: int,
    known: Collection[tuple[str, int]] = (),
) -> list[HardInstance]:
    """The control: n instances drawn at random, without repeats, from all negative training bags.

    Args:
        bags: Training bags.
        scores: The output of a model for each, for the record.
        n: Number of instances to draw.
        number: The round of mining, from 1.
        seed: Seed of the draw.
        known: Keys of instances drawn in earlier rounds; they are not drawn again.
    """
    negatives = [i for i, bag in enumerate(bags) if bag.label == 0]
    fresh = [
        np.setdiff1d(np.arange(len(bags[i])), [j for slide_id, j in known if slide_id == bags[i].slide_id])
        for i in negatives
    ]
    owners = np.repeat(np.array(negatives), [len(part) for part in fresh])
    drawn = np.random.default_rng(seed).choice(len(owners), size=n, replace=False)
    places: list[tuple[int, int]] = np.stack([owners, np.concatenate(fresh)], axis=1)[drawn].tolist()
    return [_record(bags[i], instance=j, score=scores[i], number=number, source="random") for i, j in places]


def with_clusters(pool: Sequence[HardInstance], *, clusters: Int[np.ndarray, " hard"]) -> list[HardInstance]:
    """The same instances with their clusters."""
    return [replace(one, cluster=int(cluster)) for one, cluster in zip(pool, clusters, strict=True)]
