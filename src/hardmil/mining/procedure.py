"""Train, mine, retrain: the paper on one screen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.folds import inner_folds
from hardmil.config import MiningConfig, ModelConfig, wanted_sensitivity
from hardmil.errors import ConfigError
from hardmil.metrics import binary_metrics
from hardmil.mil.inference import BagScore, embed_instances, score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import ExtraBags, fit
from hardmil.mining.hard_bags import HardBags, cluster_instances, single_bag
from hardmil.mining.hard_instances import (
    HardInstance,
    false_positive_bags,
    mine_instances,
    random_instances,
    with_clusters,
)


@runtime_checkable
class Train(Protocol):
    """Bags in, trained model out; `fit`, or something that remembers what it trained before."""

    def __call__(
        self,
        bags: Sequence[Bag],
        *,
        config: ModelConfig,
        seed: int,
        extra: ExtraBags | None = None,
        start: BagClassifier | None = None,
    ) -> BagClassifier:
        """A model trained on these bags."""
        ...


@dataclass(frozen=True, eq=False)
class Mined:
    """The outcome: the last model, the base it began with, and what was mined on the way."""

    model: BagClassifier
    base: BagClassifier
    pool: tuple[HardInstance, ...] = ()
    n_false_positive_bags: int = 0


def train_and_mine(
    bags: Sequence[Bag], *, config: ModelConfig, mining: MiningConfig, seed: int = 0, train: Train = fit
) -> Mined:
    """A model trained on the bags, and again with hard bags of what fooled it.

    If no negative bag is scored positive nothing is mined, and the model is the base: the caller says so.

    Raises:
        ConfigError: If the threshold asks for out-of-fold scores and the source is train.

    Source: Li et al. 2019, Section 2.3. Departures, each a knob of `mining`: out-of-fold scores, random
    control, rounds with a stop.
    """
    check_mining(mining)
    base = train(bags, config=config, seed=seed)
    model, pool, n_bags, gained = base, [], 0, -np.inf
    if mining.use == "none":
        return Mined(base, base)
    hard_bags = None
    for number in range(1, mining.rounds + 1):
        scores = _scores(
            bags, model=model, config=config, mining=mining, seed=seed, train=train, extra=hard_bags
        )
        gain = _gain(bags, scores)
        if mining.source == "out-of-fold" and gain <= gained:
            break
        positive = false_positive_bags(bags, scores=scores, threshold=mining.threshold)
        found = _new_instances(
            bags, positive=positive, scores=scores, mining=mining, number=number, pool=pool
        )
        if not found:
            break
        if mining.draw == "random":
            known = {one.key for one in pool}
            found = random_instances(
                bags, scores=scores, n=len(found), number=number, seed=seed + number, known=known
            )
        gained, n_bags = gain, n_bags + len(positive)
        pool = _clustered([*pool, *found], bags=bags, base=base, mining=mining, seed=seed)
        by_id = {bag.slide_id: bag for bag in bags}
        hard_bags = HardBags(pool, by_id, mining.n_bags or n_bags, mining, seed)
        start = model if mining.retrain == "continue" else None
        model = train(bags, config=config, seed=seed, extra=hard_bags, start=start)
    return Mined(model, base, tuple(pool), n_bags)


def check_mining(mining: MiningConfig) -> None:
    """Check that the knobs of mining fit each other; those of an arm that does not mine always do.

    Raises:
        ConfigError: If the threshold asks for out-of-fold scores and the source is train.
    """
    if mining.use == "none":
        return
    if wanted_sensitivity(mining.threshold) is not None and mining.source != "out-of-fold":
        raise ConfigError(
            f"mining.threshold: {mining.threshold} is set on out-of-fold scores, and mining.source is "
            f"{mining.source}; set mining.source to out-of-fold, or the threshold to a score"
        )


def out_of_fold_scores(
    bags: Sequence[Bag],
    *,
    config: ModelConfig,
    n_folds: int,
    seed: int,
    train: Train = fit,
    extra: HardBags | None = None,
) -> list[BagScore]:
    """What a model that never saw the bag, nor another bag of its case, says of each.

    Hard bags, where given, join an inner training set with the instances of its own slides alone.
    """
    labels = np.array([bag.label for bag in bags])
    scores: dict[int, BagScore] = {}
    for number, fold in enumerate(
        inner_folds(labels, [bag.case_id for bag in bags], n_folds=n_folds, seed=seed)
    ):
        inside = [bags[int(i)] for i in fold.train]
        joined = extra.within({bag.slide_id for bag in inside}) if extra else None
        model = train(inside, config=config, seed=seed + 1 + number, extra=joined)
        scores |= dict(
            zip(fold.test.tolist(), score_bags(model, [bags[int(i)] for i in fold.test]), strict=True)
        )
    return [scores[i] for i in range(len(bags))]


def _scores(
    bags: Sequence[Bag],
    *,
    model: BagClassifier,
    config: ModelConfig,
    mining: MiningConfig,
    seed: int,
    train: Train,
    extra: HardBags | None,
) -> list[BagScore]:
    if mining.source == "train":
        return score_bags(model, bags)
    return out_of_fold_scores(
        bags, config=config, n_folds=mining.inner_folds, seed=seed, train=train, extra=extra
    )


def _gain(bags: Sequence[Bag], scores: Sequence[BagScore]) -> float:
    """AUC of the scores: what a further round of out-of-fold mining must raise."""
    labels = np.array([bag.label for bag in bags])
    return binary_metrics(labels, np.array([score.bag_score for score in scores])).auc


def _new_instances(
    bags: Sequence[Bag],
    *,
    positive: Sequence[int],
    scores: Sequence[BagScore],
    mining: MiningConfig,
    number: int,
    pool: Sequence[HardInstance],
) -> list[HardInstance]:
    """The hard instances of the false-positive bags that are not in the pool yet."""
    mined = mine_instances(
        [bags[i] for i in positive],
        scores=[scores[i] for i in positive],
        n_sigma=mining.n_sigma,
        number=number,
        source=mining.source,
    )
    known = {one.key for one in pool}
    return [one for one in mined if one.key not in known]


def _clustered(
    pool: Sequence[HardInstance],
    *,
    bags: Sequence[Bag],
    base: BagClassifier,
    mining: MiningConfig,
    seed: int,
) -> list[HardInstance]:
    """The pool, each instance with its K-means cluster in the base model's embedding; FMB alone needs it."""
    if mining.use != "fmb":
        return list(pool)
    gathered = single_bag(pool).gather({bag.slide_id: bag for bag in bags})
    features = embed_instances(base, gathered)
    clusters = cluster_instances(features, n_clusters=mining.n_clusters, seed=seed)
    return with_clusters(pool, clusters=clusters)
