"""From out-of-fold scores to a threshold with its interval."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from hardmil.bootstrap import SampleSize, draw_bags, moving_threshold_limits, percentile_limits
from hardmil.config.evaluation import OperatingTarget, parse_operating_target
from hardmil.config.task import TWO_CLASSES
from hardmil.errors import BagError
from hardmil.metrics import binary_metrics, check_scores, predict_threshold_at_sensitivity

N_RESAMPLES = 2_000
"""Enough for limits; each resample sets the threshold again, which takes time."""


class Estimate(BaseModel):
    """A value and its 95% interval by case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float


class OperatingPoint(BaseModel):
    """A threshold and its quality: a slide with a higher score is called positive.

    Sensitivity and FPR are those on the out-of-fold scores it was set on. The intervals resample cases and
    set the threshold again each time: they show how much it depends on the cases in the study. Those of
    sensitivity and FPR are at least as wide as Wilson's for this many cases, so 0 and 1 have an interval too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str = Field(validation_alias=AliasChoices("target", "asked"))
    threshold: Estimate
    sensitivity: Estimate
    fpr: Estimate
    n_positive: int
    n_negative: int


def set_operating_point(
    labels: Int[np.ndarray, " bag"],
    scores: Float[np.ndarray, " bag"],
    *,
    cases: Sequence[str],
    target: str,
    seed: int = 0,
) -> OperatingPoint:
    """The threshold for a target, set on out-of-fold scores.

    Args:
        labels: 0 or 1.
        scores: Scores from 0 to 1, of models that did not see the bag.
        cases: The case of each bag.
        target: "sensitivity=0.95", "fpr=0.05" or "youden".
        seed: Seed of the resampling.

    Raises:
        BagError: If one of the two labels does not occur, or a score is not finite.
        ValueError: If `target` is none of these.
    """
    if len(set(labels.tolist())) < 2:
        raise BagError(
            f"an operating point needs bags of both labels; found {sorted(set(labels.tolist()))}; add slides "
            "with the other label, or set evaluation.operating_folds: 0"
        )
    wanted = parse_operating_target(target)

    def measured(picked: np.ndarray) -> tuple[float, float, float]:
        threshold = choose_threshold(labels[picked], scores[picked], wanted=wanted)
        metrics = binary_metrics(labels[picked], scores[picked], threshold=threshold)
        return threshold, metrics.recall, metrics.fpr

    observed = measured(np.arange(len(labels)))
    resamples = draw_bags(TWO_CLASSES.strata(labels), cases, seed=seed, n_resamples=N_RESAMPLES)
    drawn = np.array([measured(picked) for picked in resamples]).reshape(-1, 3)
    low, high = percentile_limits(drawn[:, 0], n_cases=len(set(cases)))
    positive, negative = (_sample_size(labels == label, cases=cases) for label in (1, 0))
    return OperatingPoint(
        target=target,
        threshold=Estimate(value=observed[0], low=low, high=high),
        sensitivity=_rate(observed[1], drawn=drawn[:, 1], size=positive),
        fpr=_rate(observed[2], drawn=drawn[:, 2], size=negative),
        n_positive=positive.n_slides,
        n_negative=negative.n_slides,
    )


def _sample_size(has_label: Bool[np.ndarray, " bag"], *, cases: Sequence[str]) -> SampleSize:
    with_label = {case for case, has in zip(cases, has_label.tolist(), strict=True) if has}
    return SampleSize(len(set(cases)), n_independent=len(with_label), n_slides=int(has_label.sum()))


def _rate(value: float, *, drawn: Float[np.ndarray, " resample"], size: SampleSize) -> Estimate:
    low, high = moving_threshold_limits(value, drawn, size=size)
    return Estimate(value=value, low=low, high=high)


def choose_threshold(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, wanted: OperatingTarget
) -> float:
    """The threshold t, to be used as `score > t`; NaN if no bag has the label it depends on.

    `sensitivity`: the largest t that keeps this share of the positive bags. `fpr`: the smallest t that at
    most this share of the negative bags exceeds. `youden`: the largest t of those with the greatest
    sensitivity minus FPR (Youden 1950).

    Raises:
        BagError: If a score is not finite.
    """
    check_scores(scores)
    positives, negatives = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    match wanted.kind:
        case "sensitivity":
            return predict_threshold_at_sensitivity(labels, scores, sensitivity=wanted.share)
        case "fpr":
            if len(negatives) == 0:
                return math.nan
            n_allowed = math.floor(wanted.share * len(negatives) + 1e-9)
            return float(negatives[-1 - min(n_allowed, len(negatives) - 1)])
        case "youden":
            if len(positives) == 0 or len(negatives) == 0:
                return math.nan
            candidates = np.nextafter(np.unique(scores)[::-1], -np.inf)
            gain = _share_above(positives, candidates) - _share_above(negatives, candidates)
            return float(candidates[np.argmax(gain.round(12))])


def _share_above(ascending: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return 1 - np.searchsorted(ascending, thresholds, side="right") / len(ascending)
