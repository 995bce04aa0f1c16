from pathlib import Path

from tests.support.many_classes import EXCLUSIVE, ORDERED, class_trial_rows

from hardmil.report.class_tables import report_classes
from hardmil.statistics.tables import write_statistics

MANY = ("ours", "abmil", *(f"ours+{use}" for use in ("sb", "mb", "fmb", "inject", "weigh", "sb@random")))


def test_a_step_of_an_order_is_this_class_or_higher(tmp_path: Path):
    rows = class_trial_rows(task=ORDERED)
    found = write_statistics(tmp_path, rows=rows, positive="", seed=0, task=ORDERED)
    (table,) = report_classes(found, arm="ours", task=ORDERED)
    assert [row.name for row in table.rows] == ["low or higher", "high"]


def test_rows_of_each_class_and_arm_with_their_intervals(tmp_path: Path):
    rows = class_trial_rows(("ours", "ours+mb"), task=EXCLUSIVE)
    found = write_statistics(tmp_path, rows=rows, positive="", seed=0, task=EXCLUSIVE)
    (table,) = report_classes(found, arm="ours", task=EXCLUSIVE)
    assert [(row.name, row.note) for row in table.rows] == [
        (name, arm) for name in EXCLUSIVE.names for arm in ("ours", "ours+mb")
    ]
    for row in table.rows:
        for one in found.of(row.name).intervals:
            if one.arm == row.note and one.metric in row.values:
                assert row.values[one.metric].value == one.value
        assert set(row.values) == {"fpr_op", "sens_op", "pooled_fpr", "pooled_recall", "pooled_auc"}


def test_of_many_arms_only_the_one_shown_its_base_and_its_control_are_listed(tmp_path: Path):
    rows = class_trial_rows((*MANY, "ours-top5"), task=EXCLUSIVE)
    found = write_statistics(tmp_path, rows=rows, positive="", seed=0, task=EXCLUSIVE)
    (table,) = report_classes(found, arm="ours+sb", task=EXCLUSIVE)
    assert {row.note for row in table.rows} == {"ours", "ours+sb", "ours+sb@random"}


def test_only_decided_differences_are_told_with_their_class(tmp_path: Path):
    rows = class_trial_rows(("ours", "ours+mb"), task=EXCLUSIVE, shifts=(0.0, 6.0), n_cases=40)
    found = write_statistics(tmp_path, rows=rows, positive="", seed=0, task=EXCLUSIVE)
    (table,) = report_classes(found, arm="ours", task=EXCLUSIVE)
    names = EXCLUSIVE.names
    decided = [one for one in found.claims if one.verdict != "not decided" and one.class_name in names]
    assert decided
    assert len(table.findings) == len(decided)
    expected = f"{decided[0].class_name}: ours+mb has fewer false positives than ours"
    assert table.findings[0].startswith(expected)
