"""intervals.csv and comparisons.csv of made-up rows, and what the terminal and the page show of them."""

import math
from pathlib import Path

import numpy as np
import pytest
from tests.support.studies import read_table

from hardmil.commands.arms_table import arms_table, comparison_lines, difference_cell
from hardmil.evaluation.evaluation import TrialRows
from hardmil.evaluation.results import METRICS
from hardmil.files.csv_table import Row
from hardmil.metrics import fpr_at_sensitivity
from hardmil.report.intervals import report_intervals
from hardmil.statistics.comparisons import Comparison
from hardmil.statistics.tables import Statistics, write_statistics

ARMS = ("ours", "ours+mb", "ours+mb@random")


def _rows(arms: tuple[str, ...] = ARMS, *, knows_op: bool = True) -> TrialRows:
    """Twelve cases of one slide each, two repeats."""
    results: list[Row] = []
    predictions: list[Row] = []
    for number, arm in enumerate(arms):
        for repeat in range(2):
            rng = np.random.default_rng([number, repeat])
            trial = {"arm": arm, "split": "case", "patches": "grid", "repeat": str(repeat), "fold": "0"}
            numbers = {**dict.fromkeys(METRICS, "0.5"), "n_false_positive_bags": "1", "n_hard": "2"}
            results.append({**trial, **numbers})
            for i in range(12):
                label = "tumour" if i % 2 else "normal"
                score = 0.3 + 0.2 * (i % 2) + 0.2 * rng.uniform(-1, 1)
                called = "tumour" if score > 0.4 else "normal"
                bag = {"slide_id": f"s{i}", "case_id": f"c{i}", "label": label, "bag_score": f"{score:.9g}"}
                predictions.append({**trial, **bag, "op_prediction": called if knows_op else ""})
    return TrialRows(results, predictions, [])


def _statistics(folder: Path, rows: TrialRows | None = None, *, seed: int = 3) -> Statistics:
    return write_statistics(folder, rows=rows or _rows(), positive="tumour", seed=seed)


def test_three_tables_that_agree_and_depend_on_the_seed_only(tmp_path: Path):
    _statistics(tmp_path / "a")
    _statistics(tmp_path / "b")
    _statistics(tmp_path / "c", seed=4)
    summary = {row["arm"]: row for row in read_table(tmp_path / "a" / "summary.csv")}
    for row in read_table(tmp_path / "a" / "intervals.csv"):
        assert row["value"] == summary[row["arm"]][row["metric"]]
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
    for name in ("intervals.csv", "comparisons.csv"):
        first, again, reseeded = ((tmp_path / run / name).read_text() for run in "abc")
        assert first == again
        assert first != reseeded


def test_the_difference_is_that_of_the_summary(tmp_path: Path):
    found = _statistics(tmp_path)
    values = {one.arm: one.values for one in found.summary}
    for row in read_table(tmp_path / "comparisons.csv"):
        mine, other = (values[row[name]][row["metric"]].mean for name in ("arm", "other"))
        assert float(row["difference"]) == pytest.approx(mine - other, abs=1e-9)
        assert 0 < float(row["p"]) <= float(row["p_holm"]) <= 1


def test_the_terminal_shows_the_interval_and_the_differences(tmp_path: Path):
    found = _statistics(tmp_path)
    heading, ours, *_ = arms_table(found.summary, intervals=found.intervals)
    assert "FPR@op" in heading
    predictions = [row for row in _rows().predictions if row["arm"] == "ours"]
    rates = [
        fpr_at_sensitivity(
            np.array([int(row["label"] == "tumour") for row in predictions if row["repeat"] == repeat]),
            np.array([float(row["bag_score"]) for row in predictions if row["repeat"] == repeat]),
            sensitivity=0.9,
        )
        for repeat in "01"
    ]
    (one,) = [one for one in found.intervals if (one.arm, one.metric) == ("ours", "fpr_at_sens_90")]
    assert one.value == pytest.approx(np.mean(rates))
    limits = f"[{one.low:.3f}, {one.high:.3f}]".replace("0.", ".")
    assert limits in ours
    lines = comparison_lines(found)
    (table,) = [i for i, line in enumerate(lines) if line.startswith("arm minus other")]
    assert [line.split("  ")[0] for line in lines[table + 1 :]] == [
        "ours+mb minus ours",
        "ours+mb minus ours+mb@random",
        "ours+mb@random minus ours",
    ]
    assert "@op: at the threshold set inside the training fold, the claim" in lines[1]


def test_without_calls_at_the_operating_point_there_is_a_dash(tmp_path: Path):
    found = _statistics(tmp_path, _rows(("ours", "abmil"), knows_op=False))
    lines = comparison_lines(found)
    heading, row = lines[-2:]
    start = heading.index("FPR@op")
    assert row[start : heading.index("FPR@90")].strip() == "-"
    assert {row["fpr_op"] for row in read_table(tmp_path / "summary.csv")} == {"nan"}


def test_arms_run_on_other_slides_are_named_not_compared(tmp_path: Path):
    rows = _rows(("ours", "abmil"))
    predictions = [row for row in rows.predictions if (row["arm"], row["repeat"]) != ("abmil", "1")]
    found = _statistics(tmp_path, TrialRows(rows.results, predictions, []))
    assert comparison_lines(found)[-1].startswith("not compared: abmil and ours were not run on the same")
    assert read_table(tmp_path / "comparisons.csv") == []


def test_cells_of_differences():
    one = Comparison("a", "b", "case", "grid", "pooled_auc", -0.0421, -0.11, 0.0204, 0.1, 0.31)
    assert difference_cell(one) == "-.042 [-.110, +.020] p .310"
    flat = Comparison("a", "b", "case", "grid", "pooled_auc", -0.0001, -1.0, 0.0, 1.0, 1.0)
    assert difference_cell(flat) == "+.000 [-1.000, +.000] p 1.000"
    alone = Comparison("a", "b", "case", "grid", "pooled_auc", 0.25, math.nan, math.nan, math.nan, math.nan)
    assert difference_cell(alone) == "+.250"


def test_the_page_gets_the_same_numbers_controls_last(tmp_path: Path):
    found = _statistics(tmp_path)
    shown = report_intervals(found, split="case", patches="grid", notes=["too narrow"])
    assert shown is not None
    assert (shown.n_cases, shown.n_resamples, shown.notes) == (12, 2000, ["too narrow"])
    assert [row.name for row in shown.arms] == list(ARMS)
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
