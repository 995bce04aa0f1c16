"""95% intervals of an arm's metrics, by resampling cases."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from hardmil.bootstrap import (
    N_RESAMPLES,
    SampleSize,
    draw_cases,
    moving_threshold_limits,
    percentile_limits,
    share_limits,
)
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.evaluation.results import ArmKey
from hardmil.statistics.class_predictions import PooledClasses
from hardmil.statistics.pooled_predictions import PooledRepeat
from hardmil.statistics.summary import SENSITIVITIES
from hardmil.statistics.weighted_metrics import RESAMPLED, weighted_metrics

CHUNK = 200_000
"""Weights in memory at once, resamples times bags: 1.6 MB for each array, for any number of slides."""

ShareOf = Literal["all", "negative", "positive", "both"]
SHARE_OF: dict[str, ShareOf] = {
    "pooled_accuracy": "all",
    "pooled_fpr": "negative",
    "fpr_op": "negative",
    "pooled_recall": "positive",
    "sens_op": "positive",
    **dict.fromkeys(("pooled_auc", "average_precision", "balanced_accuracy", *SENSITIVITIES), "both"),
}
"""The metrics that are shares, and whose: of all slides, of those of a label, or of both labels together."""


@dataclass(frozen=True)
class Interval:
    """A metric's mean over repeats and its 95% interval by case; a row of intervals.csv.

    `n_repeats` counts the repeats in which the metric is defined.
    """

    arm: str
    split: str
    patches: str
    metric: str
    value: float
    low: float
    high: float
    n_cases: int
    n_repeats: int
    class_name: str = ""


@dataclass(frozen=True, eq=False)
class ResampledArm:
    """The metrics of an arm in each repeat: as observed, and on each resample of cases.

    Arms with the same `bags` were resampled with the same draws. Cases and slides by label are (with negative
    slides, with positive slides).
    """

    key: ArmKey
    bags: frozenset[tuple[int, int, str]]
    n_cases: int
    cases_by_label: tuple[int, int]
    slides_by_label: tuple[int, int]
    n_slides: int
    observed: Float[np.ndarray, "metric repeat"]
    resampled: Float[np.ndarray, "metric repeat resample"]
    metrics: tuple[str, ...] = RESAMPLED


def resample_arms(
    pooled: Mapping[ArmKey, Sequence[PooledRepeat]], *, seed: int, n_resamples: int = N_RESAMPLES
) -> list[ResampledArm]:
    """The metrics of each arm on resamples of its cases; arms on the same slides share the draws.

    A resample draws as many cases as there are, with replacement, and uses all predictions of a drawn case in
    all repeats, as often as it was drawn. A resample without a positive or without a negative slide is drawn
    again. There are no resamples with fewer than two cases or only one class.

    Args:
        pooled: Predictions of each arm.
        seed: Seed of the study; the same seed and slides give the same draws for all arms.
        n_resamples: Number of resamples.
    """
    drawn: dict[tuple[object, ...], Int[np.ndarray, "resample case"]] = {}
    found: list[ResampledArm] = []
    for key, repeats in pooled.items():
        cases, holds = cases_and_classes(repeats)
        same = (tuple(cases), holds.tobytes())
        if same not in drawn:
            drawn[same] = draw_cases(holds, seed=seed, n_resamples=n_resamples)
        found.append(resample(key, repeats, cases=cases, holds=holds, draws=drawn[same]))
    return found


def intervals(arms: Iterable[ResampledArm]) -> list[Interval]:
    """Value and 95% interval of each metric of each arm: `share_limits` of the mean over repeats.

    Two exceptions: `moving_threshold_limits`, and `percentile_limits` for the Brier score, which is not a
    share.

    An interval covers how much the number would change with other cases like these, for the models that were
    trained. It does not cover training again on other cases or with another seed, other scanners and stains,
    or cases that are not independent.

    A repeat in which a metric is undefined is left out of its mean; limits are NaN where nothing could be
    resampled.
    """
    found: list[Interval] = []
    for one in arms:
        values, means = mean_of_defined(one.observed), mean_of_defined(one.resampled, axis=1)
        arm, split, patches, class_name = one.key
        for i, metric in enumerate(one.metrics):
            setting, value = (arm, split, patches, metric), float(values[i])
            low, high = _limits(metric, value, means[i], arm=one)
            n_repeats = int(np.sum(~np.isnan(one.observed[i])))
            found.append(Interval(*setting, value, low, high, one.n_cases, n_repeats, class_name))
    return found


def _limits(
    metric: str, value: float, means: Float[np.ndarray, " resample"], *, arm: ResampledArm
) -> tuple[float, float]:
    share_of = SHARE_OF.get(metric)
    if share_of is None:
        return percentile_limits(means, n_cases=arm.n_cases)
    limits = moving_threshold_limits if metric in SENSITIVITIES else share_limits
    return limits(value, means, size=_sample_size(arm, share_of))


def _sample_size(arm: ResampledArm, share_of: ShareOf) -> SampleSize:
    cases, slides = arm.cases_by_label, arm.slides_by_label
    match share_of:
        case "all":
            return SampleSize(arm.n_cases, arm.n_cases, arm.n_slides)
        case "negative":
            return SampleSize(arm.n_cases, cases[0], slides[0])
        case "positive":
            return SampleSize(arm.n_cases, cases[1], slides[1])
        case "both":
            return SampleSize(arm.n_cases, min(cases), arm.n_slides)


def mean_of_defined(values: np.ndarray, *, axis: int = -1) -> np.ndarray:
    """Mean along an axis of the values that are not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    total, count = np.where(defined, values, 0.0).sum(axis=axis), defined.sum(axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def cases_and_classes(
    repeats: Sequence[PooledRepeat] | Sequence[PooledClasses], *, task: TaskConfig = TWO_CLASSES
) -> tuple[list[str], np.ndarray]:
    """The cases of all repeats, sorted, and [case, stratum]: whether a case has slides of each class.

    In a multi-label study, strata are those of `TaskConfig.strata`.
    """
    cases = sorted({case for repeat in repeats for case in repeat.cases})
    position = {case: i for i, case in enumerate(cases)}
    holds = np.zeros((len(cases), task.strata(np.zeros(0, np.int64)).shape[1]), dtype=np.int64)
    for repeat in repeats:
        case_of_bag = [position[case] for case in repeat.cases]
        np.maximum.at(holds, case_of_bag, task.strata(repeat.labels).astype(np.int64))
    return cases, holds


def resample(
    key: ArmKey,
    repeats: Sequence[PooledRepeat],
    *,
    cases: Sequence[str],
    holds: np.ndarray,
    draws: Int[np.ndarray, "resample case"],
) -> ResampledArm:
    """The metrics of an arm on these draws of its cases.

    Args:
        key: The arm.
        repeats: Its predictions.
        cases: Its cases, in the order of the draws.
        holds: [case, class], whether a case has slides of the negative and of the positive class.
        draws: How often each case is drawn.
    """
    position = {case: i for i, case in enumerate(cases)}
    observed = np.zeros((len(RESAMPLED), len(repeats)))
    resampled = np.zeros((len(RESAMPLED), len(repeats), len(draws)))
    for number, repeat in enumerate(repeats):
        case_of_bag = np.array([position[case] for case in repeat.cases])
        once = np.ones((1, len(case_of_bag)), dtype=np.int64)
        observed[:, number] = weighted_metrics(repeat, weights=once)[:, 0]
        step = max(1, CHUNK // len(case_of_bag))
        for start in range(0, len(draws), step):
            chunk = slice(start, start + step)
            resampled[:, number, chunk] = weighted_metrics(repeat, weights=draws[chunk][:, case_of_bag])
    bags = frozenset((repeat.repeat, *bag) for repeat in repeats for bag in repeat.bags)
    slides = {
        (slide_id, label)
        for repeat in repeats
        for (_, slide_id), label in zip(repeat.bags, repeat.labels.tolist(), strict=True)
    }
    n_positive = sum(label for _, label in slides)
    return ResampledArm(
        key,
        bags,
        n_cases=len(cases),
        cases_by_label=(int(holds[:, 0].sum()), int(holds[:, 1].sum())),
        slides_by_label=(len(slides) - n_positive, n_positive),
        n_slides=len(slides),
        observed=observed,
        resampled=resampled,
    )
