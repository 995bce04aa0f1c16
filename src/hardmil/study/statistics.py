"""Rows of trials -> the table of arms: fold means, then mean and standard error over repeats."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hardmil.metrics import MeanSE, fpr_at_sensitivity, mean_and_se
from hardmil.study.arms import MINING_USES
from hardmil.study.results import METRICS, Row

SENSITIVITIES = {"fpr_at_sens_90": 0.90, "fpr_at_sens_95": 0.95}


SUMMARY = (
    "arm",
    "split",
    "patches",
    "n_trials",
    "n_repeats",
    "n_false_positive_bags",
    "n_hard",
    *(f"{name}{part}" for name in (*METRICS, *SENSITIVITIES) for part in ("", "_se")),
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
        return any(f"+{use}" in self.arm for use in MINING_USES)


def summarise(results: Sequence[Row], *, predictions: Sequence[Row], positive: str) -> list[ArmSummary]:
    """The table of arms, in the order in which their rows come.

    The six metrics are means over the folds of a repeat (a fold where one is undefined is left out), then
    mean and SE over repeats; FPR at a sensitivity is that of a repeat's pooled predictions.

    Args:
        results: Rows of results.csv.
        predictions: Rows of predictions.csv of the same trials.
        positive: Name of the positive class.

    Source: Li et al. 2019, Tables 1 and 2 ("mean and standard error").
    """
    keys = dict.fromkeys((row["arm"], row["split"], row["patches"]) for row in results)
    return [
        _summary(
            key,
            results=[row for row in results if (row["arm"], row["split"], row["patches"]) == key],
            predictions=[row for row in predictions if (row["arm"], row["split"], row["patches"]) == key],
            positive=positive,
        )
        for key in keys
    ]


def hard_minus_random(one: ArmSummary, *, summary: Sequence[ArmSummary]) -> dict[str, MeanSE] | None:
    """An arm minus its random control, repeat by repeat; None if the control was not run as often."""
    for other in summary:
        if _setting(other) == _setting(one) and other.arm == f"{one.arm}@random":
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


def _summary(
    key: tuple[str, str, str], *, results: Sequence[Row], predictions: Sequence[Row], positive: str
) -> ArmSummary:
    repeats = sorted({row["repeat"] for row in results}, key=int)
    by_repeat = {name: [_fold_mean(results, name, repeat) for repeat in repeats] for name in METRICS}
    for name, sensitivity in SENSITIVITIES.items():
        by_repeat[name] = [
            _pooled_fpr(predictions, repeat=repeat, sensitivity=sensitivity, positive=positive)
            for repeat in repeats
        ]
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
    return mean_and_se([float(row[name]) for row in results if row["repeat"] == repeat]).mean


def _pooled_fpr(predictions: Sequence[Row], *, repeat: str, sensitivity: float, positive: str) -> float:
    rows = [row for row in predictions if row["repeat"] == repeat]
    labels = np.array([int(row["label"] == positive) for row in rows])
    scores = np.array([float(row["bag_score"]) for row in rows])
    if len(np.unique(labels)) < 2:
        return float("nan")
    return fpr_at_sensitivity(labels, scores, sensitivity=sensitivity)
