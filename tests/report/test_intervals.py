import math
import re
from dataclasses import replace
from pathlib import Path

from tests.support.predictions import THREE_ARMS, trial_rows

from hardmil.report.intervals import report_intervals, report_rates
from hardmil.statistics.cautions import FIXED_SENSITIVITY, few_cases_note
from hardmil.statistics.comparisons import Comparison
from hardmil.statistics.intervals import Interval
from hardmil.statistics.tables import Statistics, write_statistics


def test_the_page_gets_the_same_numbers_controls_last(tmp_path: Path):
    found = write_statistics(tmp_path, rows=trial_rows(), positive="tumour", seed=3)
    shown = report_intervals(found, split="case", patches="grid", notes=["too narrow"])
    assert shown is not None
    assert (shown.n_cases, shown.n_resamples, shown.p_note) == (12, 20_000, FIXED_SENSITIVITY)
    assert shown.notes == ["too narrow", few_cases_note(12)]
    assert [row.name for row in shown.arms] == list(THREE_ARMS)
    assert [(row.name, row.note) for row in shown.differences] == [
        ("ours+mb minus ours", ""),
        ("ours+mb@random minus ours", ""),
        ("ours+mb minus ours+mb@random", "hard minus random"),
    ]
    for one in found.intervals:
        estimate = next(row for row in shown.arms if row.name == one.arm).values[one.metric]
        assert (estimate.value, estimate.low, estimate.high) == (one.value, one.low, one.high)
    for one in found.comparisons:
        row = next(row for row in shown.differences if row.name == f"{one.arm} minus {one.other}")
        assert row.values[one.metric].p == one.p_holm
    assert report_intervals(found, split="group", patches="grid", notes=[]) is None


def statistics(metric: str = "fpr_op", *, p: float = 0.2, difference: float = -0.1) -> Statistics:
    arms = ("abmil", "ours+fmb", "ours", "ours+fmb@random", "ours+instance")
    intervals = [Interval(name, "case", "grid", metric, 0.3, 0.2, 0.4, 9, 1) for name in arms]
    limits = (difference - 0.1, difference + 0.2)
    comparisons = [
        Comparison("ours+fmb", other, "case", "grid", metric, difference, *limits, p, p)
        for other in ("ours", "ours+fmb@random")
    ]
    return Statistics([], intervals, comparisons, [])


def test_findings_on_mining():
    rates = report_rates(statistics(), split="case", patches="grid")
    assert rates is not None
    assert [one.name for one in rates.rows] == [
        *("abmil", "ours", "ours+instance", "ours+fmb", "ours+fmb@random"),
    ]
    assert [one.role[:7] for one in rates.rows] == ["does no"] * 3 + ["mines", "control"]
    (finding,) = rates.findings
    assert finding.startswith("ours+fmb, at the threshold set in training")
    number = r"0\.100 lower \(−0\.200 to \+0\.100; p 0\.200[^)]*chance\)"
    assert re.search(rf"{number} than without mining; {number} than its control", finding)
    clear = report_rates(statistics("fpr_at_sens_95", p=0.01, difference=0.3), split="case", patches="grid")
    assert clear is not None
    assert "at sensitivity 0.95: false-positive rate 0.300 higher" in clear.findings[0]
    assert "p 0.010, a clear difference" in clear.findings[0]
    assert (rates.p_note, clear.p_note) == ("", FIXED_SENSITIVITY)
    unknown = report_rates(statistics(difference=math.nan), split="case", patches="grid")
    assert unknown is not None
    assert unknown.findings == []
    assert report_rates(statistics(), split="image", patches="grid") is None


def test_an_arm_that_does_not_mine_is_compared_with_its_base_in_both_rates():
    arm = "ours+instance+verdicts-3"
    intervals = [Interval(name, "case", "grid", "fpr_op", 0.3, 0.2, 0.4, 9, 1) for name in ("ours", arm)]
    comparisons = [
        Comparison(arm, "ours", "case", "grid", "fpr_op", -0.2, -0.3, -0.1, 0.01, 0.01),
        Comparison(arm, "ours", "case", "grid", "sens_op", 0.05, -0.1, 0.2, 0.4, 0.4),
    ]
    rates = report_rates(Statistics([], intervals, comparisons, []), split="case", patches="grid")
    assert rates is not None
    assert [row.role for row in rates.rows] == ["does not mine", "uses verdicts"]
    assert rates.findings == [
        f"{arm}, at the threshold set in training: false-positive rate 0.200 lower (−0.300 to −0.100; "
        "p 0.010, a clear difference) than its base. Sensitivity: 0.050 higher (−0.100 to +0.200; p 0.400, "
        "which may be chance) than its base."
    ]
    assert not rates.any_mines


def test_arms_that_never_differ_are_called_the_same():
    found = statistics(difference=0.0)
    level = [replace(one, low=0.0, high=0.0, p=1.0, p_holm=1.0) for one in found.comparisons]
    rates = report_rates(replace(found, comparisons=level), split="case", patches="grid")
    assert rates is not None
    assert re.search("the same as without mining.*; the same as its control", rates.findings[0])


def test_a_difference_that_rounds_to_zero_is_neither_higher_nor_lower():
    rates = report_rates(statistics(difference=-0.0004), split="case", patches="grid")
    assert rates is not None
    assert re.search(r"the same as without mining \(−0\.100 to \+0\.200; p 0\.200\)", rates.findings[0])
    assert "lower" not in rates.findings[0]
