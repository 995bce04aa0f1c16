"""summary.csv, intervals.csv and comparisons.csv of a study, and what the terminal shows of the last."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.commands.arms_table import align, short
from hardmil.evaluation.evaluation import TrialRows
from hardmil.evaluation.results import write_rows
from hardmil.statistics.comparisons import (
    COMPARISONS,
    Comparison,
    by_pair,
    compare_arms,
    comparison_rows,
    not_comparable,
)
from hardmil.statistics.intervals import INTERVALS, Interval, interval_rows, intervals, resample_arms
from hardmil.statistics.pooled_predictions import pool_predictions
from hardmil.statistics.summary import SUMMARY, ArmSummary, summarise, summary_rows

SHOWN = {
    "pooled_auc": "AUC (pooled)",
    "fpr_op": "FPR@op",
    "fpr_at_sens_90": "FPR@90",
    "fpr_at_sens_95": "FPR@95",
}
READING = (
    "accuracy to FPR, AUC too: means of the folds; the rest, intervals and differences: pooled over a repeat",
    "@op: at the threshold set inside the training fold, the claim; @90, @95: at one taken from the test "
    "scores themselves, descriptive",
)


@dataclass(frozen=True)
class Statistics:
    """All that a study says of its arms; `not_compared` names pairs run on other slides or repeats."""

    summary: Sequence[ArmSummary]
    intervals: Sequence[Interval]
    comparisons: Sequence[Comparison]
    not_compared: Sequence[tuple[str, str]]


def write_statistics(folder: Path, *, rows: TrialRows, positive: str, seed: int) -> Statistics:
    """Write summary.csv, intervals.csv and comparisons.csv of these rows; what stands in them."""
    summary = summarise(rows.results, predictions=rows.predictions, positive=positive)
    arms = resample_arms(pool_predictions(rows.predictions, positive=positive), seed=seed)
    found = Statistics(summary, intervals(arms), compare_arms(arms), not_comparable(arms))
    write_rows(folder / "summary.csv", summary_rows(summary), columns=SUMMARY)
    write_rows(folder / "intervals.csv", interval_rows(found.intervals), columns=INTERVALS)
    write_rows(folder / "comparisons.csv", comparison_rows(found.comparisons), columns=COMPARISONS)
    return found


def comparison_lines(found: Statistics) -> list[str]:
    """How to read the table of arms, and one line a pair of arms: differences with interval and p."""
    pairs = by_pair(found.comparisons)
    lines = list(READING)
    if pairs:
        table = [["arm minus other", *SHOWN.values()]]
        for (arm, other, *_), by_metric in pairs.items():
            table.append([f"{arm} minus {other}", *(difference_cell(by_metric[name]) for name in SHOWN)])
        heading = "differences by case, with 95% interval and two-sided p (Holm-corrected):"
        lines += ["", heading, *align(table)]
    lines += [
        f"not compared: {arm} and {other} were not run on the same slides and repeats"
        for arm, other in found.not_compared
    ]
    return lines


def difference_cell(one: Comparison) -> str:
    """`-.042 [-.110, +.020] p .310`; `-` where it is undefined."""
    if math.isnan(one.difference):
        return "-"
    if math.isnan(one.low):
        return _signed(one.difference)
    return f"{_signed(one.difference)} [{_signed(one.low)}, {_signed(one.high)}] p {short(one.p_holm)}"


def _signed(value: float) -> str:
    return f"{'-' if round(value, 3) < 0 else '+'}{short(abs(value))}"
