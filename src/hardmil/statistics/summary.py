"""Rows of trials -> the table of arms: a value a repeat, then mean and standard error over repeats."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from hardmil.evaluation.arms import CONTROL, mines
from hardmil.evaluation.results import METRICS
from hardmil.files.csv_table import Row
from hardmil.metrics import (
    MeanSE,
    average_precision,
    balanced_accuracy,
    binary_metrics,
    brier_score,
    expected_calibration_error,
    fpr_at_sensitivity,
    mean_and_se,
)
from hardmil.statistics.pooled_predictions import ArmKey, PooledRepeat, arm_key, pool_predictions

SENSITIVITIES = {"fpr_at_sens_90": 0.90, "fpr_at_sens_95": 0.95}
POOLED = (
    *(f"pooled_{name}" for name in METRICS),
    "balanced_accuracy",
    "average_precision",
    "brier",
    "ece",
    *SENSITIVITIES,
    "fpr_op",
    "sens_op",
)
"""What is measured once a repeat, on the predictions of all its folds together."""

TRIAL_MEANS = (*METRICS, "instance_auc", "mined_look_alikes")
"""Columns of results.csv of which a repeat has the mean over its trials."""

SUMMARY = (
    "arm",
    "split",
    "patches",
    "n_trials",
    "n_repeats",
    "n_false_positive_bags",
    "n_hard",
    *(f"{name}{part}" for name in (*TRIAL_MEANS, *POOLED) for part in ("", "_se")),
)


@dataclass(frozen=True)
class ArmSummary:
    """One row of the table of arms."""

    arm: str
    split: str
    patches: str
    values: Mapping[str, MeanSE]
    by_repeat: Mapping[str, Sequence[float]]
    n_trials: int
    n_repeats: int
    n_false_positive_bags: int
    n_hard: int

    @property
    def mines(self) -> bool:
        """Whether the arm mines at all."""
        return mines(self.arm)


def summarise(results: Sequence[Row], *, predictions: Sequence[Row], positive: str) -> list[ArmSummary]:
    """The table of arms, in the order in which their rows come.

    The paper's six, instance AUC and the share of look-alikes among the mined are means over the folds of a
    repeat (a fold where one is undefined is left out); the rest is measured on a repeat's pooled predictions.
    Of both, mean and SE over repeats. What the rows do not tell is nan.

    Args:
        results: Rows of results.csv.
        predictions: Rows of predictions.csv of the same trials.
        positive: Name of the positive class.

    Source: Li et al. 2019, Tables 1 and 2 ("mean and standard error").
    """
    by_arm: dict[ArmKey, list[Row]] = {}
    for row in results:
        by_arm.setdefault(arm_key(row), []).append(row)
    pooled = pool_predictions(predictions, positive=positive)
    return [_summary(key, results=rows, pooled=pooled.get(key, [])) for key, rows in by_arm.items()]


def pooled_metrics(repeat: PooledRepeat) -> dict[str, float]:
    """Each of POOLED, by name; calls are at 0.5, but those of `fpr_op` and `sens_op`.

    Raises:
        BagError: If a score is no probability.
    """
    labels, scores = repeat.labels, repeat.scores
    six = asdict(binary_metrics(labels, scores))
    at_op = None if repeat.called_at_op is None else binary_metrics(labels, repeat.called_at_op.astype(float))
    return {
        **{f"pooled_{name}": six[name] for name in METRICS},
        "balanced_accuracy": balanced_accuracy(labels, scores),
        "average_precision": average_precision(labels, scores),
        "brier": brier_score(labels, scores),
        "ece": expected_calibration_error(labels, scores),
        **{
            name: fpr_at_sensitivity(labels, scores, sensitivity=sensitivity)
            for name, sensitivity in SENSITIVITIES.items()
        },
        "fpr_op": math.nan if at_op is None else at_op.fpr,
        "sens_op": math.nan if at_op is None else at_op.recall,
    }


def hard_minus_random(one: ArmSummary, *, summary: Sequence[ArmSummary]) -> dict[str, MeanSE] | None:
    """An arm minus its random control, repeat by repeat; None if the control was not run as often."""
    for other in summary:
        if _setting(other) == _setting(one) and other.arm == one.arm + CONTROL:
            return {
                name: mean_and_se([a - b for a, b in zip(values, other.by_repeat[name], strict=True)])
                for name, values in one.by_repeat.items()
            }
    return None


def _setting(one: ArmSummary) -> tuple[str, str, int, int]:
    return one.split, one.patches, one.n_trials, one.n_repeats


def summary_rows(summary: Iterable[ArmSummary]) -> list[dict[str, object]]:
    """The table of arms as rows of summary.csv."""
    return [
        {
            **{name: getattr(one, name) for name in SUMMARY if hasattr(one, name)},
            **{name: value.mean for name, value in one.values.items()},
            **{f"{name}_se": value.se for name, value in one.values.items()},
        }
        for one in summary
    ]


def _summary(key: ArmKey, *, results: Sequence[Row], pooled: Sequence[PooledRepeat]) -> ArmSummary:
    repeats = sorted({row["repeat"] for row in results}, key=int)
    measured = {repeat.repeat: pooled_metrics(repeat) for repeat in pooled}
    by_repeat = {name: [_fold_mean(results, name, repeat) for repeat in repeats] for name in TRIAL_MEANS}
    for name in POOLED:
        by_repeat[name] = [measured[repeat][name] if repeat in measured else math.nan for repeat in repeats]
    arm, split, patches = key
    return ArmSummary(
        arm=arm,
        split=split,
        patches=patches,
        values={name: mean_and_se(values) for name, values in by_repeat.items()},
        by_repeat=by_repeat,
        n_trials=len(results),
        n_repeats=len(repeats),
        n_false_positive_bags=_total(results, "n_false_positive_bags"),
        n_hard=_total(results, "n_hard"),
    )


def _total(results: Iterable[Row], column: str) -> int:
    return sum(int(row[column]) for row in results)


def _fold_mean(results: Sequence[Row], name: str, repeat: str) -> float:
    return mean_and_se([float(row.get(name) or "nan") for row in results if row["repeat"] == repeat]).mean
