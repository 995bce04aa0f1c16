from dataclasses import replace
from pathlib import Path

from tests.support.predictions import THREE_ARMS, trial_rows

from hardmil.report.intervals import report_intervals, report_rates
from hardmil.statistics.cautions import FIXED_SENSITIVITY, few_cases_note
from hardmil.statistics.claims import AT_OP, AT_SENSITIVITY, Claim, claim_words
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


def claim(arm: str, other: str, *, threshold: str = AT_OP, verdict: str = "not decided") -> Claim:
    limits = (-0.1, -0.2, 0.0, 0.01, -0.02, 0.04)
    return Claim(arm, other, "case", "grid", threshold, *limits, 0.05, 0.02, 0.03, verdict)


def test_findings_are_joint_claims_and_leave_out_controls():
    claims = [claim("ours+fmb", "ours", verdict="fewer"), claim("ours+fmb", "ours+fmb@random")]
    found = replace(statistics(), claims=[*claims, claim("ours+fmb@random", "ours")])
    rates = report_rates(found, split="case", patches="grid")
    assert rates is not None
    assert [one.name for one in rates.rows] == [
        *("abmil", "ours", "ours+instance", "ours+fmb", "ours+fmb@random"),
    ]
    assert [one.role[:7] for one in rates.rows] == ["does no"] * 3 + ["mines", "control"]
    assert rates.findings == [f"{claim_words(one)}.".replace("-0", "−0") for one in claims]
    assert rates.p_note == ""
    at_sensitivity = replace(found, claims=[claim("ours+fmb", "ours", threshold=AT_SENSITIVITY)])
    rates = report_rates(at_sensitivity, split="case", patches="grid")
    assert rates is not None
    assert rates.p_note == FIXED_SENSITIVITY
    assert report_rates(found, split="image", patches="grid") is None


def test_an_arm_with_verdicts_is_called_so():
    arm = "ours+instance+verdicts-3"
    intervals = [Interval(name, "case", "grid", "fpr_op", 0.3, 0.2, 0.4, 9, 1) for name in ("ours", arm)]
    rates = report_rates(Statistics([], intervals, [], []), split="case", patches="grid")
    assert rates is not None
    assert [row.role for row in rates.rows] == ["does not mine", "uses verdicts"]
    assert not rates.any_mines
