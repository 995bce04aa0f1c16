"""From rows of trials to the table of arms: one value for each repeat, then mean and standard error."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from hardmil.evaluation.arm_name import parse_arm_name
from hardmil.evaluation.results import METRICS, ArmKey, PredictionRow, ResultRow
from hardmil.files.csv_table import columns_by_name, columns_of
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
from hardmil.statistics.pooled_predictions import PooledRepeat, pool_predictions

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
"""Measured once for each repeat, on the pooled predictions of its folds."""

TRIAL_MEANS = (*METRICS, "instance_auc", "mined_look_alikes")
"""Columns of results.csv that are averaged over the trials of a repeat."""

VALUES = (*TRIAL_MEANS, *POOLED)
"""Values in summary.csv, each with its standard error."""


@dataclass(frozen=True)
class SummaryRow:
    """An arm in numbers: a row of summary.csv."""

    arm: str
    split: str
    patches: str
    n_trials: int
    n_repeats: int
    n_false_positive_bags: int
    n_hard: int
    values: Mapping[str, float] = columns_by_name()
    class_name: str = ""


def summary_columns(values: Sequence[str] = VALUES, *, with_class: bool = False) -> tuple[str, ...]:
    """Columns of summary.csv; `class_name` is the last, if there are more than two classes."""
    names = [f"{name}{part}" for name in values for part in ("", "_se")]
    columns = columns_of(SummaryRow, names=names)
    return columns if with_class else tuple(one for one in columns if one != "class_name")


SUMMARY_COLUMNS = summary_columns()


@dataclass(frozen=True)
class ArmSummary:
    """An arm, with its values in each repeat."""

    arm: str
    split: str
    patches: str
    values: Mapping[str, MeanSE]
    by_repeat: Mapping[str, Sequence[float]]
    n_trials: int
    n_repeats: int
    n_false_positive_bags: int
    n_hard: int
    class_name: str = ""

    @property
    def mines(self) -> bool:
        """Whether the arm mines."""
        return parse_arm_name(self.arm).mines


def summarise(
    results: Sequence[ResultRow], *, predictions: Sequence[PredictionRow], positive: str
) -> list[ArmSummary]:
    """The table of arms, in the order of their rows.

    The paper's six, instance AUC and the share of mined look-alikes are means over the folds of a repeat
    (folds where they are undefined are left out); all others are measured on the pooled predictions of a
    repeat. For both, mean and SE over repeats. Values that the rows do not have are NaN.

    Args:
        results: Rows of results.csv.
        predictions: Rows of predictions.csv of the same trials.
        positive: Name of the positive class.

    Source: Li et al. 2019, Tables 1 and 2 ("mean and standard error").
    """
    pooled = pool_predictions(predictions, positive=positive)
    measured = {key: {one.repeat: pooled_metrics(one) for one in repeats} for key, repeats in pooled.items()}
    return [
        arm_summary(key, results=rows, measured=measured.get(key, {}))
        for key, rows in results_by_arm(results).items()
    ]


def results_by_arm(results: Iterable[ResultRow]) -> dict[ArmKey, list[ResultRow]]:
    """The rows of each arm, in the order of the rows."""
    by_arm: dict[ArmKey, list[ResultRow]] = {}
    for row in results:
        by_arm.setdefault(row.trial.arm_key, []).append(row)
    return by_arm


def pooled_metrics(repeat: PooledRepeat) -> dict[str, float]:
    """Each metric of POOLED; calls are at 0.5, except for `fpr_op` and `sens_op`.

    Raises:
        BagError: If a score is not a probability.
    """
    labels, scores = repeat.labels, repeat.scores
    six = asdict(binary_metrics(labels, repeat.calls.astype(float)))
    six["auc"] = binary_metrics(labels, scores).auc
    at_op = None if repeat.called_at_op is None else binary_metrics(labels, repeat.called_at_op.astype(float))
    return {
        **{f"pooled_{name}": six[name] for name in METRICS},
        "balanced_accuracy": balanced_accuracy(labels, repeat.calls.astype(float)),
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
    """An arm minus its random control, by repeat; None if the control was not run in the same trials."""
    for other in summary:
        if _setting(other) == _setting(one) and other.arm == parse_arm_name(one.arm).its_control:
            return {
                name: mean_and_se([a - b for a, b in zip(values, other.by_repeat[name], strict=True)])
                for name, values in one.by_repeat.items()
            }
    return None


def _setting(one: ArmSummary) -> tuple[str, str, int, int, str]:
    return one.split, one.patches, one.n_trials, one.n_repeats, one.class_name


def summary_row(one: ArmSummary) -> SummaryRow:
    """An arm as a row of summary.csv."""
    means = {name: value.mean for name, value in one.values.items()}
    errors = {f"{name}_se": value.se for name, value in one.values.items()}
    return SummaryRow(
        arm=one.arm,
        split=one.split,
        patches=one.patches,
        n_trials=one.n_trials,
        n_repeats=one.n_repeats,
        n_false_positive_bags=one.n_false_positive_bags,
        n_hard=one.n_hard,
        values=means | errors,
        class_name=one.class_name,
    )


def arm_summary(
    key: ArmKey,
    *,
    results: Sequence[ResultRow],
    measured: Mapping[int, Mapping[str, float]],
    names: Sequence[str] = POOLED,
    with_trials: bool = True,
) -> ArmSummary:
    """An arm in numbers.

    Args:
        key: The arm.
        results: Its rows.
        measured: The values on pooled predictions, by repeat; what is missing is NaN.
        names: Of these values.
        with_trials: Whether the rows are about this; otherwise the means over their trials are NaN.
    """
    repeats = sorted({row.trial.repeat for row in results})
    by_repeat = {
        name: [_fold_mean(results if with_trials else (), name, repeat) for repeat in repeats]
        for name in TRIAL_MEANS
    }
    for name in names:
        by_repeat[name] = [measured.get(repeat, {}).get(name, math.nan) for repeat in repeats]
    return ArmSummary(
        key.arm,
        key.split,
        key.patches,
        class_name=key.class_name,
        values={name: mean_and_se(values) for name, values in by_repeat.items()},
        by_repeat=by_repeat,
        n_trials=len(results),
        n_repeats=len(repeats),
        n_false_positive_bags=sum(row.n_false_positive_bags for row in results),
        n_hard=sum(row.n_hard for row in results),
    )


def _fold_mean(results: Sequence[ResultRow], name: str, repeat: int) -> float:
    here = [row for row in results if row.trial.repeat == repeat]
    return mean_and_se([getattr(row.metrics if name in METRICS else row, name) for row in here]).mean
