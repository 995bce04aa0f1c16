"""Intervals and comparisons -> what stands of them on report.html."""

from collections.abc import Iterable, Sequence

from hardmil.commands.statistics_tables import Statistics
from hardmil.report.html import Estimate, EstimateRow, ReportIntervals
from hardmil.study.comparisons import Comparison, by_pair
from hardmil.study.intervals import N_RESAMPLES


def report_intervals(
    found: Statistics, *, split: str, patches: str, notes: Sequence[str]
) -> ReportIntervals | None:
    """The intervals of arms on these folds and patches, and their differences; None without predictions."""
    setting = (split, patches)
    here = [one for one in found.intervals if (one.split, one.patches) == setting]
    if not here:
        return None
    by_arm: dict[str, dict[str, Estimate]] = {}
    for one in here:
        by_arm.setdefault(one.arm, {})[one.metric] = Estimate(one.value, one.low, one.high)
    return ReportIntervals(
        n_cases=max(one.n_cases for one in here),
        n_resamples=N_RESAMPLES,
        arms=[EstimateRow(arm, values) for arm, values in by_arm.items()],
        differences=_differences(one for one in found.comparisons if (one.split, one.patches) == setting),
        notes=notes,
    )


def _differences(comparisons: Iterable[Comparison]) -> list[EstimateRow]:
    """One row a pair of arms; those with a random control last, under their own name."""
    rows = [_difference(list(found.values())) for found in by_pair(comparisons).values()]
    return sorted(rows, key=lambda row: bool(row.note))


def _difference(found: Sequence[Comparison]) -> EstimateRow:
    first = found[0]
    return EstimateRow(
        f"{first.arm} minus {first.other}",
        {one.metric: Estimate(one.difference, one.low, one.high, one.p_holm) for one in found},
        note="hard minus random" if first.is_hard_minus_random else "",
    )
