"""Instance labels that a training makes itself, from scores of its own bags, and then uses like verdicts."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from hardmil.bags.bag import Bag
from hardmil.bags.folds import inner_folds
from hardmil.config.mining import SelfJudgedConfig
from hardmil.mil.bag_score import BagScore
from hardmil.mil.out_of_fold import Score, out_of_fold_scores

LESION, NORMAL = np.float32(1), np.float32(0)
Learn = Callable[[Sequence[Bag], int], Score]
"""Trains on bags with a seed, and returns a function that scores others."""


def self_judged_bags(
    bags: Sequence[Bag], *, config: SelfJudgedConfig, is_random: bool, n_folds: int, seed: int, learn: Learn
) -> list[Bag]:
    """The bags with the instance labels of the last round; labels that a person gave stay.

    Args:
        bags: Training bags.
        config: How instances are judged, and how often.
        is_random: The control: as many labels of each kind, on instances drawn at random.
        n_folds: Folds by case of the scores of `pseudo`.
        seed: Seed of folds and trainings.
        learn: Trains on bags with their labels so far.

    Raises:
        FoldError: If scores are out of fold and a class has fewer than two cases.
    """
    labelled = list(bags)
    if config.how == "em":
        labelled = [_with_labels(bag, np.full(len(bag), bag.label, np.float32)) for bag in bags]
    for _ in range(config.rounds):
        if config.how == "em":
            found = em_labels(bags, learn(labelled, seed)(labelled), config=config)
        else:
            scores = out_of_fold_scores(labelled, n_folds=n_folds, seed=seed, learn=learn)
            found = pseudo_labels(bags, scores, config=config, n_folds=n_folds, seed=seed)
        if is_random:
            found = [_shuffled(values, bag=bag, seed=seed) for values, bag in zip(found, bags, strict=True)]
        labelled = [_with_labels(bag, values) for bag, values in zip(bags, found, strict=True)]
    return labelled


def pseudo_labels(
    bags: Sequence[Bag], scores: Sequence[BagScore], *, config: SelfJudgedConfig, n_folds: int, seed: int
) -> list[Float[np.ndarray, " _"]]:
    """Labels of the instances of each positive bag from out-of-fold scores; NaN for all others.

    An instance is a lesion if its logit is above a high quantile of the logits of negative bags, or among the
    highest of its bag; normal if it is below the median of negative bags; otherwise unknown. Logits are
    compared with those of negative bags that the same model scored, since each model has its own scale.

    Ours, after the E-step of Hou et al. 2016: departures are the out-of-fold scores, quantiles of negative
    bags instead of the bag's own, and a label for what is surely normal.
    """
    labels = np.array([bag.label for bag in bags])
    found = [np.full(len(bag), np.nan, np.float32) for bag in bags]
    for fold in inner_folds(labels, [bag.case_id for bag in bags], n_folds=n_folds, seed=seed):
        inside = [int(i) for i in fold.test]
        negatives = [scores[i].instance_logit for i in inside if bags[i].label == 0]
        if not negatives:
            continue
        quantiles = [config.lesion_quantile, config.normal_quantile]
        high, low = np.quantile(np.concatenate(negatives), quantiles)
        for i in inside:
            if bags[i].label == 1:
                logits = scores[i].instance_logit
                is_lesion = (logits > high) | _highest(logits, share=config.lesion_share)
                found[i][logits < low] = NORMAL
                found[i][is_lesion] = LESION
    return found


def em_labels(
    bags: Sequence[Bag], scores: Sequence[BagScore], *, config: SelfJudgedConfig
) -> list[Float[np.ndarray, " _"]]:
    """Labels of the instances of each bag: which instances of a positive bag are discriminative.

    The threshold of a positive bag is a quantile of its own logits, or one of those of all positive bags if
    that is lower; instances below it are unknown. Every instance of a negative bag is normal.

    Source: Hou et al. 2016, the E-step. Departures: logits are not smoothed over neighbouring patches;
    negative bags keep all instances; the quantiles are ours.
    """
    positives = [score.instance_logit for score, bag in zip(scores, bags, strict=True) if bag.label == 1]
    of_class = np.quantile(np.concatenate(positives), config.class_quantile) if positives else np.inf
    found: list[Float[np.ndarray, " _"]] = []
    for bag, score in zip(bags, scores, strict=True):
        if bag.label != 1:
            found.append(np.full(len(bag), NORMAL))
            continue
        threshold = min(np.quantile(score.instance_logit, config.bag_quantile), of_class)
        found.append(np.where(score.instance_logit >= threshold, LESION, np.float32(np.nan)))
    return found


def _highest(logits: Float[np.ndarray, " instance"], *, share: float) -> Bool[np.ndarray, " instance"]:
    """Which instances are among this share with the highest logits; at least one."""
    n = max(1, int(np.ceil(share * len(logits) - 1e-9)))
    chosen = np.zeros(len(logits), dtype=bool)
    chosen[np.argsort(-logits, kind="stable")[:n]] = True
    return chosen


def _shuffled(
    values: Float[np.ndarray, " instance"], *, bag: Bag, seed: int
) -> Float[np.ndarray, " instance"]:
    """The same labels on other instances of the bag, drawn at random."""
    return np.random.default_rng([seed, zlib.crc32(bag.slide_id.encode())]).permutation(values)


def _with_labels(bag: Bag, values: Float[np.ndarray, " instance"]) -> Bag:
    known = bag.instance_labels
    labels = values if known is None else np.where(np.isfinite(known), known, values)
    return bag if np.isnan(labels).all() else replace(bag, instance_labels=labels.astype(np.float32))
