"""Intervals, comparisons and false-positive rates on report.html."""

import re
from collections.abc import Iterable, Mapping, Sequence

from hardmil.bootstrap import N_RESAMPLES
from hardmil.evaluation.arm_name import ArmName, parse_arm_name
from hardmil.report.page_data import RATES, Estimate, EstimateRow, RateRow, ReportIntervals, ReportRates
from hardmil.statistics.cautions import FIXED_SENSITIVITY, few_cases_notes
from hardmil.statistics.claims import AT_SENSITIVITY, claim_words
from hardmil.statistics.comparisons import Comparison, by_pair
from hardmil.statistics.intervals import Interval
from hardmil.statistics.tables import Statistics


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
    here = [one for one in found.claims if (one.split, one.patches) == setting]
    claims = [one for one in here if not parse_arm_name(one.arm).is_control]
    findings = [re.sub(r"-(?=\d\.)", "−", f"{claim_words(one)}.") for one in claims]
    p_note = FIXED_SENSITIVITY if any(one.threshold == AT_SENSITIVITY for one in here) else ""
    return ReportRates(rows, findings, any(name.mines for name in names), p_note)


def _rate_row(name: ArmName, values: Mapping[str, Estimate]) -> RateRow:
    shown = {key: values[key] for key in (*RATES, "sens_op") if key in values}
    return RateRow(name.text, _role(name), shown, base=name.base)


def _role(name: ArmName) -> str:
    if not name.mines:
        return "uses verdicts" if name.uses_verdicts else "does not mine"
    return "control: patches drawn at random" if name.is_control else "mines"


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
