"""The choice of the arm `auto`: which candidate has the best out-of-fold scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from hardmil.bootstrap import draw_bags
from hardmil.config.evaluation import AutoConfig, parse_operating_target
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.metrics import binary_metrics, fpr_at_sensitivity, mean_and_se, partial_auc

N_RESAMPLES = 400
"""Enough for a standard error."""
DEFAULT_SENSITIVITY = 0.90

Value = Callable[[Int[np.ndarray, " bag"], Float[np.ndarray, "bag *class"]], float]


@dataclass(frozen=True)
class Candidate:
    """How good the out-of-fold scores of a candidate are.

    `value` is the criterion of the choice, `below_best` its distance to the best candidate, at least 0, and
    `se` the standard error of that distance, by case.
    """

    name: str
    value: float
    below_best: float
    se: float


@dataclass(frozen=True)
class Choice:
    """The candidate that `auto` takes, and all candidates in their order."""

    chosen: str
    criterion: str
    candidates: tuple[Candidate, ...]


def choose(
    scores: Mapping[str, Float[np.ndarray, "bag *class"]],
    *,
    labels: Int[np.ndarray, " bag"],
    cases: Sequence[str],
    auto: AutoConfig,
    operating_point: str,
    task: TaskConfig = TWO_CLASSES,
) -> Choice:
    """The first candidate that is near enough to the best.

    With more than two classes, the criterion is the mean over the branches, each against the rest.

    Args:
        scores: The out-of-fold scores of each candidate, in the order of preference; with more than two
            classes, of each class.
        labels: Positions of classes; all occur.
        cases: The case of each bag; standard errors are by case.
        auto: Criterion, and what is near enough.
        operating_point: Its sensitivity is that of the criterion fpr.
        task: The classes.
    """
    value = _value(auto, operating_point=operating_point)
    if not task.is_binary:
        value = _mean_over_branches(value, task=task)
    sign = -1 if auto.criterion == "fpr" else 1
    values = {name: value(labels, one) for name, one in scores.items()}
    best = max(values, key=lambda name: sign * values[name])
    resamples = list(draw_bags(task.strata(labels), cases, seed=0, n_resamples=N_RESAMPLES))
    drawn = {
        name: np.array([value(labels[picked], one[picked]) for picked in resamples])
        for name, one in scores.items()
    }
    candidates = tuple(
        Candidate(
            name, values[name], sign * (values[best] - values[name]), _spread(drawn[best] - drawn[name])
        )
        for name in scores
    )
    near = (one for one in candidates if one.below_best <= auto.standard_errors * one.se)
    return Choice(next(near).name, auto.criterion, candidates)


def _value(auto: AutoConfig, *, operating_point: str) -> Value:
    if auto.criterion == "auc":
        return lambda labels, scores: binary_metrics(labels, scores).auc
    if auto.criterion == "partial-auc":
        return partial_auc
    target = parse_operating_target(operating_point)
    sensitivity = target.share if target.kind == "sensitivity" else DEFAULT_SENSITIVITY
    return lambda labels, scores: fpr_at_sensitivity(labels, scores, sensitivity=sensitivity)


def _mean_over_branches(value: Value, *, task: TaskConfig) -> Value:
    """The same measured for each branch; a branch where it is undefined is left out of the mean."""

    def mean(labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, "bag class"]) -> float:
        answers, of_branches = task.answers(labels), task.branch_scores(scores)
        pairs = zip(answers.T.astype(np.int64), of_branches.T, strict=True)
        return mean_and_se(value(*pair) for pair in pairs).mean

    return mean


def _spread(differences: Float[np.ndarray, " resample"]) -> float:
    return float(np.std(differences)) if len(differences) else 0.0
