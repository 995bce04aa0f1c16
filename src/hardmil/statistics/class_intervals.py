"""Resamples of the metrics of more than two classes: each branch, and their means."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from hardmil.bootstrap import N_RESAMPLES, draw_cases
from hardmil.config.task import MACRO, TaskConfig
from hardmil.evaluation.results import ArmKey
from hardmil.statistics.class_predictions import PooledClasses, branches_of
from hardmil.statistics.intervals import (
    CHUNK,
    ResampledArm,
    cases_and_classes,
    mean_of_defined,
    resample,
)
from hardmil.statistics.weighted_metrics import RESAMPLED

KAPPA = "kappa"
"""Quadratic weighted kappa, of ordered classes."""
JOINT = ("pooled_accuracy", "balanced_accuracy", KAPPA)
"""Metrics of the predicted class, or predicted classes, which take the place of a mean over branches."""


def resample_class_arms(
    pooled: Mapping[ArmKey, Sequence[PooledClasses]],
    *,
    task: TaskConfig,
    seed: int,
    n_resamples: int = N_RESAMPLES,
) -> list[ResampledArm]:
    """The metrics of each arm on resamples of its cases: MACRO, then each branch against the rest.

    All branches of all arms on the same slides share the draws, each of which has slides of all classes. See
    `resample_arms`. A value of MACRO is the mean over the branches, but JOINT are of the predicted class.

    Args:
        pooled: Predictions of each arm.
        task: The classes.
        seed: Seed of the study; the same seed and slides give the same draws for all arms.
        n_resamples: Number of resamples.
    """
    drawn: dict[tuple[object, ...], Int[np.ndarray, "resample case"]] = {}
    found: list[ResampledArm] = []
    for key, repeats in pooled.items():
        cases, holds = cases_and_classes(repeats, task=task)
        same = (tuple(cases), holds.tobytes())
        if same not in drawn:
            drawn[same] = draw_cases(holds, seed=seed, n_resamples=n_resamples)
        branches = [
            resample(
                key._replace(class_name=name),
                of_branch,
                cases=cases,
                holds=cases_and_classes(of_branch)[1],
                draws=drawn[same],
            )
            for name, of_branch in branches_of(repeats, task=task).items()
        ]
        joint = _joint(repeats, cases=cases, draws=drawn[same], task=task)
        found += [_macro(branches, joint=joint, metrics=_metrics(task)), *branches]
    return found


def weighted_class_metrics(
    repeat: PooledClasses, *, weights: Float[np.ndarray, "weighting bag"], task: TaskConfig
) -> Float[np.ndarray, "metric weighting"]:
    """Each metric of JOINT under each weighting of the bags; NaN where undefined.

    Accuracy of the predicted class, mean of the classes' recall, and Cohen's kappa with quadratic weights. In
    a multi-label study: the share of bags of which all classes are predicted right, the mean over the classes
    of the recall of yes and of no, and no kappa.

    Source: Cohen 1968, with squared distances of the positions of the classes.
    """
    if task.multi_label:
        return _weighted_multi_label(repeat, weights=weights, task=task)
    n_classes = task.n_classes
    true, predicted = (np.eye(n_classes)[one] for one in (repeat.labels, repeat.predicted))
    n = weights.sum(axis=1)
    n_true, n_predicted = weights @ true, weights @ predicted
    hits = weights @ (true * predicted)
    recall = np.divide(hits, n_true, out=np.full(hits.shape, np.nan), where=n_true > 0)
    positions = np.arange(n_classes)
    distance = (positions[:, None] - positions) ** 2
    observed = weights @ ((repeat.labels - repeat.predicted) ** 2)
    expected = np.sum(n_true @ distance * n_predicted, axis=1) / n
    share = np.divide(observed, expected, out=np.full(len(n), np.nan), where=expected > 0)
    return np.stack([hits.sum(axis=1) / n, mean_of_defined(recall), 1 - share])


def _weighted_multi_label(
    repeat: PooledClasses, *, weights: Float[np.ndarray, "weighting bag"], task: TaskConfig
) -> Float[np.ndarray, "metric weighting"]:
    true, predicted = task.strata(repeat.labels), task.strata(repeat.predicted)
    n_true, hits = weights @ true, weights @ (true & predicted)
    recall = np.divide(hits, n_true, out=np.full(hits.shape, np.nan), where=n_true > 0)
    of_no_and_yes = recall.reshape(len(weights), 2, task.n_classes)
    accuracy = weights @ (repeat.labels == repeat.predicted) / weights.sum(axis=1)
    balanced = mean_of_defined(of_no_and_yes.mean(axis=1))
    return np.stack([accuracy, balanced, np.full(len(weights), np.nan)])


def macro_values(
    by_branch: Sequence[Mapping[str, float]], *, repeat: PooledClasses, task: TaskConfig
) -> dict[str, float]:
    """The values of all classes in a repeat: means over the branches, and JOINT of the predicted class."""
    means = {
        name: float(mean_of_defined(np.array([one[name] for one in by_branch]))) for name in by_branch[0]
    }
    once = np.ones((1, len(repeat.labels)))
    joint = weighted_class_metrics(repeat, weights=once, task=task)[:, 0].tolist()
    shown = (name for name in JOINT if name in _metrics(task))
    return means | dict(zip(shown, joint, strict=False))


def _metrics(task: TaskConfig) -> tuple[str, ...]:
    return (*RESAMPLED, KAPPA) if task.ordinal else RESAMPLED


def _joint(
    repeats: Sequence[PooledClasses],
    *,
    cases: Sequence[str],
    draws: Int[np.ndarray, "resample case"],
    task: TaskConfig,
) -> Float[np.ndarray, "metric repeat weighting"]:
    """JOINT in each repeat, as observed and then on each resample."""
    position = {case: i for i, case in enumerate(cases)}
    found: list[np.ndarray] = []
    for repeat in repeats:
        case_of_bag = [position[case] for case in repeat.cases]
        every = np.vstack([np.ones((1, len(cases)), dtype=draws.dtype), draws])
        step = max(1, CHUNK // len(case_of_bag))
        parts = [
            weighted_class_metrics(
                repeat,
                weights=every[start : start + step][:, case_of_bag].astype(np.float64),
                task=task,
            )
            for start in range(0, len(every), step)
        ]
        found.append(np.concatenate(parts, axis=1))
    return np.stack(found, axis=1)


def _macro(
    branches: Sequence[ResampledArm],
    *,
    joint: Float[np.ndarray, "metric repeat weighting"],
    metrics: tuple[str, ...],
) -> ResampledArm:
    """The means over branches as an arm; of independent cases and slides it counts those of the rarest."""
    observed = mean_of_defined(np.stack([one.observed for one in branches]), axis=0)
    resampled = mean_of_defined(np.stack([one.resampled for one in branches]), axis=0)
    both = np.concatenate([observed[..., None], resampled], axis=2)
    both = np.concatenate([both, joint[JOINT.index(KAPPA)][None]])[: len(metrics)]
    for number, name in enumerate(JOINT[:2]):
        both[metrics.index(name)] = joint[number]
    first = branches[0]
    negative, positive = np.min([one.cases_by_label for one in branches], axis=0).tolist()
    return ResampledArm(
        first.key._replace(class_name=MACRO),
        first.bags,
        n_cases=first.n_cases,
        cases_by_label=(negative, positive),
        slides_by_label=(first.n_slides, first.n_slides),
        n_slides=first.n_slides,
        observed=both[..., 0],
        resampled=both[..., 1:],
        metrics=metrics,
    )
