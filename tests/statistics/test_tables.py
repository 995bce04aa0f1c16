"""summary.csv, intervals.csv and comparisons.csv of synthetic rows."""

from pathlib import Path

import pytest
from tests.support.many_classes import EXCLUSIVE, ORDERED, WITH_NEGATIVE, class_trial_rows
from tests.support.predictions import THREE_ARMS, trial_rows

from hardmil.config.task import MACRO, TaskConfig
from hardmil.evaluation.evaluation import TrialRows
from hardmil.evaluation.results import key_of
from hardmil.files.csv_table import read_cells, read_table
from hardmil.statistics.comparisons import Comparison
from hardmil.statistics.intervals import Interval
from hardmil.statistics.summary import SummaryRow
from hardmil.statistics.tables import Statistics, write_statistics


def _statistics(folder: Path, rows: TrialRows | None = None, *, seed: int = 3) -> Statistics:
    return write_statistics(folder, rows=rows or trial_rows(), positive="tumour", seed=seed)


def test_three_tables_that_agree_and_depend_on_the_seed_only(tmp_path: Path):
    _statistics(tmp_path / "a")
    _statistics(tmp_path / "b")
    _statistics(tmp_path / "c", seed=4)
    summary = {row.arm: row.values for row in read_table(tmp_path / "a" / "summary.csv", SummaryRow)}
    assert list(summary) == list(THREE_ARMS)
    intervals = read_table(tmp_path / "a" / "intervals.csv", Interval)
    assert {row.arm for row in intervals} == set(THREE_ARMS)
    for row in intervals:
        assert row.value == summary[row.arm][row.metric]
        assert row.low <= row.value <= row.high
    for name in ("intervals.csv", "comparisons.csv"):
        first, again, reseeded = ((tmp_path / run / name).read_text() for run in "abc")
        assert first == again
        assert first != reseeded


def test_columns_of_two_classes(tmp_path: Path):
    _statistics(tmp_path)
    headers = {
        name: (tmp_path / f"{name}.csv").read_text().splitlines()[0] for name in ("intervals", "comparisons")
    }
    assert headers == {
        "intervals": "arm,split,patches,metric,value,low,high,n_cases,n_repeats",
        "comparisons": "arm,other,split,patches,metric,difference,low,high,p,p_holm",
    }
    for name in ("summary", "claims"):
        assert "class_name" not in (tmp_path / f"{name}.csv").read_text()


def test_the_difference_is_that_of_the_summary(tmp_path: Path):
    found = _statistics(tmp_path)
    values = {one.arm: one.values for one in found.summary}
    comparisons = read_table(tmp_path / "comparisons.csv", Comparison)
    assert comparisons
    for row in comparisons:
        mine, other = (values[name][row.metric].mean for name in (row.arm, row.other))
        assert row.difference == pytest.approx(mine - other, abs=1e-9)
        assert 0 < row.p <= row.p_holm <= 1


def test_without_calls_at_the_operating_point_its_rates_are_unknown(tmp_path: Path):
    _statistics(tmp_path, trial_rows(("ours", "abmil"), knows_op=False))
    assert {row["fpr_op"] for row in read_cells(tmp_path / "summary.csv")} == {"nan"}


def test_arms_run_on_other_slides_are_not_compared(tmp_path: Path):
    rows = trial_rows(("ours", "abmil"))
    predictions = [row for row in rows.predictions if (key_of(row).arm, key_of(row).repeat) != ("abmil", 1)]
    found = _statistics(tmp_path, TrialRows(rows.results, predictions, []))
    assert found.not_compared == [("abmil", "ours")]
    assert read_table(tmp_path / "comparisons.csv", Comparison) == []


@pytest.mark.parametrize(
    "task", [EXCLUSIVE, WITH_NEGATIVE, ORDERED], ids=["exclusive", "negative", "ordered"]
)
def test_tables_of_many_classes_have_rows_of_each_class(tmp_path: Path, task: TaskConfig):
    rows = class_trial_rows(("ours", "ours+mb"), task=task)
    found = write_statistics(tmp_path, rows=rows, positive="", seed=0, task=task)
    names = {MACRO, *task.branch_names}
    for name in ("summary", "intervals", "comparisons", "claims"):
        assert {cells["class_name"] for cells in read_cells(tmp_path / f"{name}.csv")} == names
    assert ("kappa" in read_cells(tmp_path / "summary.csv")[0]) == task.ordinal
    whole, high = found.whole, found.of(task.names[-1])
    assert {one.class_name for one in (*whole.summary, *whole.intervals, *whole.claims)} == {MACRO}
    assert {one.class_name for one in high.comparisons} == {task.names[-1]}
    values = {(one.arm, one.class_name): one.values for one in found.summary}
    for row in read_table(tmp_path / "intervals.csv", Interval):
        expected = values[row.arm, row.class_name][row.metric].mean
        assert row.value == pytest.approx(expected, rel=1e-7)
