"""summary.csv, intervals.csv and comparisons.csv of a study, and what the terminal shows of the last."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.evaluation.evaluation import TrialRows
from hardmil.files.csv_table import write_rows
from hardmil.statistics.comparisons import (
    COMPARISONS,
    Comparison,
    compare_arms,
    comparison_rows,
    not_comparable,
)
from hardmil.statistics.intervals import INTERVALS, Interval, interval_rows, intervals, resample_arms
from hardmil.statistics.pooled_predictions import pool_predictions
from hardmil.statistics.summary import SUMMARY, ArmSummary, summarise, summary_rows


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
