"""Intervals and comparisons -> what stands of them on report.html."""

from collections.abc import Iterable, Sequence

from hardmil.commands.statistics_tables import Statistics
from hardmil.report.html import Estimate, EstimateRow, ReportIntervals
from hardmil.study.comparisons import Comparison
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
    rows: dict[tuple[str, str], dict[str, Estimate]] = {}
    controls: set[tuple[str, str]] = set()
    for one in comparisons:
        pair = (one.arm, one.other)
        rows.setdefault(pair, {})[one.metric] = Estimate(one.difference, one.low, one.high, one.p_holm)
        if one.is_hard_minus_random:
            controls.add(pair)
    return [
        EstimateRow(f"{arm} minus {other}", values, note="hard minus random" if pair in controls else "")
        for pair, values in sorted(rows.items(), key=lambda item: item[0] in controls)
        for arm, other in [pair]
    ]
