"""summary.csv, intervals.csv, comparisons.csv and claims.csv of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardmil.config.evaluation import SENSITIVITY_MARGIN
from hardmil.config.task import MACRO, TWO_CLASSES, TaskConfig
from hardmil.evaluation.evaluation import TrialRows
from hardmil.files.csv_table import columns_of, write_table
from hardmil.statistics.choices import ChoiceSummary, summarise_choices
from hardmil.statistics.claims import Claim, claims
from hardmil.statistics.class_intervals import resample_class_arms
from hardmil.statistics.class_predictions import pool_classes
from hardmil.statistics.class_summary import pooled_names, summarise_classes
from hardmil.statistics.comparisons import Comparison, compare_arms, not_comparable
from hardmil.statistics.intervals import Interval, intervals, resample_arms
from hardmil.statistics.pooled_predictions import pool_predictions
from hardmil.statistics.summary import (
    TRIAL_MEANS,
    ArmSummary,
    SummaryRow,
    summarise,
    summary_columns,
    summary_row,
)


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

    def of(self, *class_names: str) -> "Statistics":
        """The same numbers, those of these classes only."""
        return replace(
            self,
            summary=[one for one in self.summary if one.class_name in class_names],
            intervals=[one for one in self.intervals if one.class_name in class_names],
            comparisons=[one for one in self.comparisons if one.class_name in class_names],
            claims=[one for one in self.claims if one.class_name in class_names],
        )

    @property
    def whole(self) -> "Statistics":
        """The numbers of the whole study: with more than two classes, those of MACRO."""
        return self.of("", MACRO)


def write_statistics(
    folder: Path,
    *,
    rows: TrialRows,
    positive: str,
    seed: int,
    margin: float = SENSITIVITY_MARGIN,
    task: TaskConfig = TWO_CLASSES,
) -> Statistics:
    """Write summary.csv, intervals.csv, comparisons.csv and claims.csv; what they contain.

    Args:
        folder: The folder of the evaluation.
        rows: The rows of its trials.
        positive: The positive label of two.
        seed: Seed of the resampling.
        margin: How much lower a sensitivity may be in a claim of fewer false positives.
        task: What the arms tell apart.
    """
    if task.is_binary:
        summary = summarise(rows.results, predictions=rows.predictions, positive=positive)
        arms = resample_arms(pool_predictions(rows.predictions, positive=positive), seed=seed)
    else:
        summary = summarise_classes(rows.results, predictions=rows.predictions, task=task)
        arms = resample_class_arms(pool_classes(rows.predictions, task=task), task=task, seed=seed)
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
    columns = summary_columns((*TRIAL_MEANS, *pooled_names(task)), with_class=not task.is_binary)
    write_table(folder / "summary.csv", lines, row=SummaryRow, columns=columns)
    for name, kind, numbers in (
        ("intervals", Interval, found.intervals),
        ("comparisons", Comparison, found.comparisons),
        ("claims", Claim, found.claims),
    ):
        columns = [one for one in columns_of(kind) if one != "class_name" or not task.is_binary]
        write_table(folder / f"{name}.csv", numbers, row=kind, columns=columns)
    return found
