"""summary.csv, intervals.csv, comparisons.csv and claims.csv of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.config.evaluation import SENSITIVITY_MARGIN
from hardmil.evaluation.evaluation import TrialRows
from hardmil.files.csv_table import write_table
from hardmil.statistics.choices import ChoiceSummary, summarise_choices
from hardmil.statistics.claims import Claim, claims
from hardmil.statistics.comparisons import Comparison, compare_arms, not_comparable
from hardmil.statistics.intervals import Interval, intervals, resample_arms
from hardmil.statistics.pooled_predictions import pool_predictions
from hardmil.statistics.summary import SUMMARY_COLUMNS, ArmSummary, SummaryRow, summarise, summary_row


@dataclass(frozen=True)
class Statistics:
    """All numbers about arms.

    `not_compared` are pairs that were run on different slides or repeats; `choices` are those of `auto`;
    `claims` say which arm has fewer false positives.
    """

    summary: Sequence[ArmSummary]
    intervals: Sequence[Interval]
    comparisons: Sequence[Comparison]
    not_compared: Sequence[tuple[str, str]]
    choices: ChoiceSummary | None = None
    claims: Sequence[Claim] = ()


def write_statistics(
    folder: Path, *, rows: TrialRows, positive: str, seed: int, margin: float = SENSITIVITY_MARGIN
) -> Statistics:
    """Write summary.csv, intervals.csv, comparisons.csv and claims.csv; what they contain.

    Args:
        folder: The folder of the evaluation.
        rows: The rows of its trials.
        positive: The positive label.
        seed: Seed of the resampling.
        margin: How much lower a sensitivity may be in a claim of fewer false positives.
    """
    summary = summarise(rows.results, predictions=rows.predictions, positive=positive)
    arms = resample_arms(pool_predictions(rows.predictions, positive=positive), seed=seed)
    choices = summarise_choices(rows.choices)
    found = Statistics(
        summary,
        intervals(arms),
        compare_arms(arms),
        not_comparable(arms),
        choices,
        claims(arms, margin=margin),
    )
    lines = map(summary_row, summary)
    write_table(folder / "summary.csv", lines, row=SummaryRow, columns=SUMMARY_COLUMNS)
    write_table(folder / "intervals.csv", found.intervals, row=Interval)
    write_table(folder / "comparisons.csv", found.comparisons, row=Comparison)
    write_table(folder / "claims.csv", found.claims, row=Claim)
    return found
