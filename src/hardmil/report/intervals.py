"""Intervals and comparisons -> what stands of them on report.html."""

from collections.abc import Iterable, Sequence

from hardmil.evaluation.arms import CONTROL, base_of, mines
from hardmil.report.page_data import RATES, Estimate, EstimateRow, RateRow, ReportIntervals, ReportRates
from hardmil.report.templating import signed
from hardmil.statistics.comparisons import Comparison, by_pair
from hardmil.statistics.intervals import N_RESAMPLES, Interval
from hardmil.statistics.tables import Statistics


def report_intervals(
    found: Statistics, *, split: str, patches: str, notes: Sequence[str]
) -> ReportIntervals | None:
    """The intervals of arms on these folds and patches, and their differences; None without predictions."""
    setting = (split, patches)
    here = [one for one in found.intervals if (one.split, one.patches) == setting]
    if not here:
        return None
    return ReportIntervals(
        n_cases=max(one.n_cases for one in here),
        n_resamples=N_RESAMPLES,
        arms=[EstimateRow(arm, values) for arm, values in _by_arm(here).items()],
        differences=_differences(one for one in found.comparisons if (one.split, one.patches) == setting),
        notes=notes,
    )


def report_rates(found: Statistics, *, split: str, patches: str) -> ReportRates | None:
    """False-positive rates of each base, of the arms that mine from it and of their controls, in this order.

    None without predictions.
    """
    setting = (split, patches)
    by_arm = _by_arm(one for one in found.intervals if (one.split, one.patches) == setting)
    if not by_arm:
        return None
    bases = list(dict.fromkeys(base_of(name) for name in by_arm))
    names = sorted(by_arm, key=lambda name: (bases.index(base_of(name)), mines(name)))
    rows = [
        RateRow(
            name, _role(name), {key: by_arm[name][key] for key in (*RATES, "sens_op") if key in by_arm[name]}
        )
        for name in names
    ]
    here = [one for one in found.comparisons if (one.split, one.patches) == setting]
    findings = [_finding(name, here) for name in names if mines(name) and CONTROL not in name]
    return ReportRates(rows, [finding for finding in findings if finding], any(map(mines, names)))


def _role(name: str) -> str:
    if not mines(name):
        return "does not mine"
    return "control: patches drawn at random" if CONTROL in name else "mines"


def _finding(arm: str, comparisons: Sequence[Comparison]) -> str:
    """In a sentence or two, whether mining lowered the false positives; empty where nothing was compared."""
    by_other = {
        other: {one.metric: one for one in comparisons if (one.arm, one.other) == (arm, other)}
        for other in (base_of(arm), arm + CONTROL)
    }
    # The claim where there is one; else what the test scores alone can say.
    metric = next(
        (key for key in RATES for found in by_other.values() if key in found and _is_known(found[key])), None
    )
    if metric is None:
        return ""
    where = "at the threshold set in training" if metric == "fpr_op" else f"at sensitivity 0.{metric[-2:]}"
    parts = [
        _against(found[metric], "without mining" if other == base_of(arm) else "its control")
        for other, found in by_other.items()
        if metric in found and _is_known(found[metric])
    ]
    return f"{arm}, {where}: false-positive rate {'; '.join(parts)}."


def _is_known(one: Comparison) -> bool:
    return one.difference == one.difference and one.low == one.low


def _against(one: Comparison, other: str) -> str:
    if one.difference == one.low == one.high == 0:
        return f"the same as {other} in every draw of cases"
    sure = "a clear difference" if one.p_holm < 0.05 else "which may be chance"
    way = "lower" if one.difference < 0 else "higher"
    limits = f"{signed(one.low)} to {signed(one.high)}"
    return f"{abs(one.difference):.3f} {way} ({limits}; p {one.p_holm:.3f}, {sure}) than {other}"


def _by_arm(found: Iterable[Interval]) -> dict[str, dict[str, Estimate]]:
    by_arm: dict[str, dict[str, Estimate]] = {}
    for one in found:
        by_arm.setdefault(one.arm, {})[one.metric] = Estimate(one.value, one.low, one.high)
    return by_arm


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
