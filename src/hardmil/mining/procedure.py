"""The procedure of the paper: train, mine, retrain."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from hardmil.bags.bag import Bag
from hardmil.bags.clusters import cluster_instances
from hardmil.config.mining import MiningConfig, parse_sensitivity
from hardmil.config.model import ResolvedModelConfig
from hardmil.config.task import TaskConfig
from hardmil.encoders.open_encoder import open_encoder
from hardmil.errors import ConfigError
from hardmil.mil.bag_score import BagScore
from hardmil.mil.inference import embed_instances, score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mil.out_of_fold import Score, out_of_fold_scores
from hardmil.mil.training import TrainingExtras, fit
from hardmil.mining.hard_bags import HardBags, single_bag
from hardmil.mining.hard_instances import HardInstance, with_clusters
from hardmil.mining.injection import Distractors, weighed
from hardmil.mining.one_round import mean_auc, mine_round
from hardmil.mining.self_judged import self_judged_bags
from hardmil.mining.verdicts import Reviewer, chosen_verdicts, judged_bags


@runtime_checkable
class Train(Protocol):
    """Bags in, trained model out: `fit`, or a function that reuses what it trained before."""

    def __call__(
        self,
        bags: Sequence[Bag],
        *,
        config: ResolvedModelConfig,
        seed: int,
        extras: TrainingExtras | None = None,
        start: BagClassifier | None = None,
    ) -> BagClassifier:
        """A model trained on these bags."""
        ...


@dataclass(frozen=True, eq=False)
class Mined:
    """The last model, the base it started from, and what was mined."""

    model: BagClassifier
    base: BagClassifier
    pool: tuple[HardInstance, ...] = ()
    n_false_positive_bags: int = 0


MEMBER_STEP = 10**8
"""Between the seeds of networks that are averaged: no fold or repeat of a study reaches the next."""
N_JUDGES = 5
"""Networks whose disagreement chooses verdicts, after Beluch et al., CVPR 2018."""


def member_seeds(seed: int, *, config: ResolvedModelConfig) -> list[int]:
    """The seeds of the `training.n_networks` networks whose outputs are averaged; the given one is first."""
    return [seed + number * MEMBER_STEP for number in range(config.training.n_networks)]


def judge_seeds(seed: int, *, mining: MiningConfig) -> list[int]:
    """The seeds of the networks that choose verdicts: of the base alone, or of those that may disagree."""
    is_alone = mining.verdict_budget is None or mining.verdict_choice != "disagreement"
    return [seed + number * MEMBER_STEP for number in range(1 if is_alone else N_JUDGES)]


def train_members(
    bags: Sequence[Bag],
    *,
    config: ResolvedModelConfig,
    mining: MiningConfig,
    seed: int,
    train: Train = fit,
    reviewer: Reviewer | None = None,
) -> list[Mined]:
    """`train_and_mine` once for each network whose outputs are averaged."""
    return [
        train_and_mine(bags, config=config, mining=mining, seed=one, train=train, reviewer=reviewer)
        for one in member_seeds(seed, config=config)
    ]


def train_and_mine(
    bags: Sequence[Bag],
    *,
    config: ResolvedModelConfig,
    mining: MiningConfig,
    seed: int = 0,
    train: Train = fit,
    reviewer: Reviewer | None = None,
) -> Mined:
    """A model trained on the bags, and trained again with its hard negatives.

    If no negative bag is scored positive, nothing is mined, and the model is the base; the caller reports it.
    With a reviewer, the base is trained again on verdicts that it selects, before anything is mined. So is a
    self-judging base on its own labels.

    Raises:
        ConfigError: If the threshold needs out-of-fold scores and the source is train.
        FoldError: If scores are out of fold and a class has fewer than two cases.
        EmptyBagError: If the verdicts call every instance of a bag an artefact.
        TrainingError: If a loss becomes NaN or infinite.

    Source: Li et al. 2019, Section 2.3. Departures, each a setting of `mining`: out-of-fold scores, random
    control, rounds with early stop, other uses of mined instances, verdicts.
    """
    check_mining(mining)
    if reviewer is not None:
        networks = [train(bags, config=config, seed=one) for one in judge_seeds(seed, mining=mining)]
        bags = _reviewed(
            bags, networks=networks, reviewer=reviewer, mining=mining, seed=seed, task=config.task
        )
    if mining.self_judged.how != "none":
        bags = _self_judged(bags, config=config, mining=mining, seed=seed, train=train)
    base = train(bags, config=config, seed=seed)
    model, pool, n_bags, n_negative, best_auc = base, [], 0, 0, -np.inf
    if mining.use == "none":
        return Mined(base, base)
    training_bags, extras, task = bags, None, config.task
    for number in range(1, mining.rounds + 1):
        scores = _scores(
            training_bags, model=model, config=config, mining=mining, seed=seed, train=train, extras=extras
        )
        auc = mean_auc(bags, scores, task=task)
        if mining.source == "out-of-fold" and auc <= best_auc:
            break
        mined = mine_round(
            bags, scores=scores, task=task, mining=mining, number=number, pool=pool, seed=seed + number
        )
        if not mined.found:
            break
        best_auc, n_bags, n_negative = auc, n_bags + mined.n_bags, n_negative + mined.n_negative_bags
        pool = _clustered([*pool, *mined.found], bags=bags, base=base, mining=mining, seed=seed)
        if mining.use == "weigh":
            training_bags = weighed(bags, pool=pool, weight=mining.named_weight, task=task)
        else:
            extras = _training_extras(pool, bags=bags, n_bags=n_negative, mining=mining, seed=seed, task=task)
            if extras is None:
                break
        start = model if mining.retrain == "continue" else None
        model = train(training_bags, config=config, seed=seed, extras=extras, start=start)
    return Mined(model, base, tuple(pool), n_bags)


def _training_extras(
    pool: Sequence[HardInstance],
    *,
    bags: Sequence[Bag],
    n_bags: int,
    mining: MiningConfig,
    seed: int,
    task: TaskConfig,
) -> TrainingExtras | None:
    """What mining adds to the second training: hard bags, or instances to put into its bags.

    Hard bags are of the negative class, so only instances of its bags may be in them. None if there are none.
    """
    by_id = {bag.slide_id: bag for bag in bags}
    if mining.use == "inject":
        return Distractors(pool, by_id, mining, seed, task)
    label = task.negative_label
    pool = [one for one in pool if by_id[one.slide_id].label == label]
    if label is None or not pool:
        return None
    return HardBags(pool, by_id, mining.n_bags or n_bags, mining, seed, label)


def _reviewed(
    bags: Sequence[Bag],
    *,
    networks: Sequence[BagClassifier],
    reviewer: Reviewer,
    mining: MiningConfig,
    seed: int,
    task: TaskConfig,
) -> list[Bag]:
    """The bags with the verdicts within the budget; with all verdicts if there is no budget.

    The first network chooses them; where the choice is disagreement, all do.
    """
    if mining.verdict_budget is not None:
        reviewer = chosen_verdicts(
            bags,
            known=reviewer,
            scores=[score_bags(one, bags) for one in networks],
            embed=partial(embed_instances, networks[0]),
            config=mining,
            seed=seed,
            task=task,
        )
    return judged_bags(bags, verdicts=reviewer, task=task)


def _self_judged(
    bags: Sequence[Bag], *, config: ResolvedModelConfig, mining: MiningConfig, seed: int, train: Train
) -> list[Bag]:
    """The bags with labels of instances that the trainings themselves make."""

    def learn(inside: Sequence[Bag], seed: int) -> Score:
        return partial(score_bags, train(inside, config=config, seed=seed))

    return self_judged_bags(
        bags,
        config=mining.self_judged,
        is_random=mining.draw == "random",
        n_folds=mining.inner_folds,
        seed=seed,
        learn=learn,
    )


def check_mining(mining: MiningConfig) -> None:
    """Check that the settings of mining fit together; those of an arm that does not mine always do.

    Raises:
        ConfigError: If the threshold needs out-of-fold scores and the source is train.
    """
    if mining.use == "none":
        return
    if parse_sensitivity(mining.threshold) is not None and mining.source != "out-of-fold":
        raise ConfigError(
            f"mining.threshold: {mining.threshold} is set on out-of-fold scores, and mining.source is "
            f"{mining.source}; set mining.source to out-of-fold, or the threshold to a score"
        )


def _scores(
    bags: Sequence[Bag],
    *,
    model: BagClassifier,
    config: ResolvedModelConfig,
    mining: MiningConfig,
    seed: int,
    train: Train,
    extras: TrainingExtras | None,
) -> list[BagScore]:
    """The scores that decide on false positives: of the model itself, or out of fold."""
    if mining.source == "train":
        return score_bags(model, bags)

    def learn(inside: Sequence[Bag], inner_seed: int) -> Score:
        # What mining adds to an inner training is restricted to the slides of that training.
        own = extras.within({bag.slide_id for bag in inside}) if extras else None
        return partial(score_bags, train(inside, config=config, seed=inner_seed, extras=own))

    return out_of_fold_scores(bags, n_folds=mining.inner_folds, seed=seed, learn=learn, task=config.task)


def _clustered(
    pool: Sequence[HardInstance],
    *,
    bags: Sequence[Bag],
    base: BagClassifier,
    mining: MiningConfig,
    seed: int,
) -> list[HardInstance]:
    """The pool with K-means clusters in the embedding of `mining.encoder`, by class; only FMB needs them."""
    if mining.use != "fmb":
        return list(pool)
    found: list[HardInstance] = []
    for name in dict.fromkeys(one.hard_for for one in pool):
        part = [one for one in pool if one.hard_for == name]
        clusters = _clusters(part, bags=bags, base=base, mining=mining, seed=seed)
        first = 1 + max((one.cluster for one in found), default=-1)
        found += with_clusters(part, clusters=clusters + first)
    return found


def _clusters(
    pool: Sequence[HardInstance], *, bags: Sequence[Bag], base: BagClassifier, mining: MiningConfig, seed: int
) -> Int[np.ndarray, " hard"]:
    gathered = single_bag(pool).gather({bag.slide_id: bag for bag in bags})
    if mining.encoder == "base":
        features = embed_instances(base, gathered)
    elif gathered.kind == "features":
        features = gathered.instances.astype(np.float32)
    else:
        features = open_encoder(mining.encoder).embed(gathered.instances)
    return cluster_instances(features, n_clusters=mining.n_clusters, seed=seed)
