"""Intervals, comparisons and false-positive rates on report.html."""

from collections.abc import Iterable, Mapping, Sequence

from hardmil.bootstrap import N_RESAMPLES
from hardmil.evaluation.arm_name import ArmName, parse_arm_name
from hardmil.report.page_data import RATES, Estimate, EstimateRow, RateRow, ReportIntervals, ReportRates
from hardmil.report.templating import signed
from hardmil.statistics.cautions import FIXED_SENSITIVITY, few_cases_notes
from hardmil.statistics.comparisons import Comparison, by_pair
from hardmil.statistics.intervals import Interval
from hardmil.statistics.tables import Statistics

SMALLEST_DIFFERENCE = 0.0005
"""Below this, a difference of two rates is 0.000 on the page: neither higher nor lower."""

AT_SENSITIVITY = "at sensitivity"


def report_intervals(
    found: Statistics, *, split: str, patches: str, notes: Sequence[str]
) -> ReportIntervals | None:
    """Intervals and differences of arms for a split and kind of patches; None without predictions."""
    setting = (split, patches)
    here = [one for one in found.intervals if (one.split, one.patches) == setting]
    if not here:
        return None
    return ReportIntervals(
        n_cases=max(one.n_cases for one in here),
        n_resamples=N_RESAMPLES,
        arms=[EstimateRow(arm, values) for arm, values in _by_arm(here).items()],
        differences=_differences(one for one in found.comparisons if (one.split, one.patches) == setting),
        notes=[*notes, *few_cases_notes(here)],
        p_note=FIXED_SENSITIVITY,
    )


def report_rates(found: Statistics, *, split: str, patches: str) -> ReportRates | None:
    """False-positive rates of each base, then of the arms that mine from it, and their controls.

    None without predictions.
    """
    setting = (split, patches)
    by_arm = _by_arm(one for one in found.intervals if (one.split, one.patches) == setting)
    if not by_arm:
        return None
    names = [parse_arm_name(text) for text in by_arm]
    bases = list(dict.fromkeys(name.base for name in names))
    names.sort(key=lambda name: (bases.index(name.base), name.mines))
    rows = [_rate_row(name, by_arm[name.text]) for name in names]
    here = [one for one in found.comparisons if (one.split, one.patches) == setting]
    findings = [_finding(name, here) for name in names if name.text != name.base and not name.is_control]
    findings = [finding for finding in findings if finding]
    p_note = FIXED_SENSITIVITY if any(AT_SENSITIVITY in finding for finding in findings) else ""
    return ReportRates(rows, findings, any(name.mines for name in names), p_note)


def _rate_row(name: ArmName, values: Mapping[str, Estimate]) -> RateRow:
    shown = {key: values[key] for key in (*RATES, "sens_op") if key in values}
    return RateRow(name.text, _role(name), shown, base=name.base)


def _role(name: ArmName) -> str:
    if not name.mines:
        return "uses verdicts" if name.uses_verdicts else "does not mine"
    return "control: patches drawn at random" if name.is_control else "mines"


def _finding(arm: ArmName, comparisons: Sequence[Comparison]) -> str:
    """Whether an arm has fewer false positives than its base and control; empty if nothing was compared."""
    by_other = {
        other: {one.metric: one for one in comparisons if (one.arm, one.other) == (arm.text, other)}
        for other in (arm.base, arm.its_control)
    }
    # The rate at the operating point if there is one; otherwise a rate taken from the test scores.
    metric = next(
        (key for key in RATES for found in by_other.values() if key in found and _is_known(found[key])), None
    )
    if metric is None:
        return ""
    where = "at the threshold set in training" if metric == "fpr_op" else f"{AT_SENSITIVITY} 0.{metric[-2:]}"
    parts = [
        _against(found[metric], _other_words(arm, other=other))
        for other, found in by_other.items()
        if metric in found and _is_known(found[metric])
    ]
    return (
        f"{arm.text}, {where}: false-positive rate {'; '.join(parts)}.{_sensitivity(arm, by_other[arm.base])}"
    )


def _sensitivity(arm: ArmName, against_base: Mapping[str, Comparison]) -> str:
    """The sensitivity at the operating point: fewer false positives are no gain if it is lower, too."""
    one = against_base.get("sens_op")
    if one is None or not _is_known(one):
        return ""
    return f" Sensitivity: {_against(one, _other_words(arm, other=arm.base))}."


def _other_words(arm: ArmName, *, other: str) -> str:
    if other == arm.its_control:
        return "its control"
    return "without mining" if arm.mines else "its base"


def _is_known(one: Comparison) -> bool:
    return one.difference == one.difference and one.low == one.low


def _against(one: Comparison, other: str) -> str:
    if one.difference == one.low == one.high == 0:
        return f"the same as {other} in every resample of cases"
    limits = f"{signed(one.low)} to {signed(one.high)}; p {one.p_holm:.3f}"
    if abs(one.difference) < SMALLEST_DIFFERENCE:
        return f"the same as {other} ({limits})"
    strength = "a clear difference" if one.p_holm < 0.05 else "which may be chance"
    direction = "lower" if one.difference < 0 else "higher"
    return f"{abs(one.difference):.3f} {direction} ({limits}, {strength}) than {other}"


def _by_arm(found: Iterable[Interval]) -> dict[str, dict[str, Estimate]]:
    by_arm: dict[str, dict[str, Estimate]] = {}
    for one in found:
        by_arm.setdefault(one.arm, {})[one.metric] = Estimate(one.value, one.low, one.high)
    return by_arm


def _differences(comparisons: Iterable[Comparison]) -> list[EstimateRow]:
    """One row for each pair of arms; pairs with a random control last, with a note."""
    rows = [_difference(list(found.values())) for found in by_pair(comparisons).values()]
    return sorted(rows, key=lambda row: bool(row.note))


def _difference(found: Sequence[Comparison]) -> EstimateRow:
    first = found[0]
    return EstimateRow(
        f"{first.arm} minus {first.other}",
        {one.metric: Estimate(one.difference, one.low, one.high, one.p_holm) for one in found},
        note="hard minus random" if first.is_hard_minus_random else "",
    )
