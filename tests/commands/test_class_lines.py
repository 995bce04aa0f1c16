from pathlib import Path

import pytest
from tests.support.many_classes import EXCLUSIVE, ORDERED, WITH_NEGATIVE, class_trial_rows
from tests.support.predictions import trial_rows

from hardmil.commands.class_lines import class_lines, class_values, classes_line
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.statistics.tables import write_statistics


def test_the_classes_in_a_line():
    assert classes_line(("normal", "tumour"), task=TWO_CLASSES) == "positive label: tumour"
    assert classes_line(WITH_NEGATIVE.names, task=WITH_NEGATIVE) == "classes: normal, a, b; negative: normal"
    assert classes_line(("x", "y", "z"), task=TaskConfig(names=("x", "y", "z"))) == "classes: x, y, z"
    assert classes_line(ORDERED.names, task=ORDERED) == "classes, the lowest first: benign, low, high"


def test_two_classes_have_no_lines_and_no_values(tmp_path: Path):
    found = write_statistics(tmp_path, rows=trial_rows(), positive="tumour", seed=0)
    assert class_lines(found, task=TWO_CLASSES) == []
    assert class_values(found, task=TWO_CLASSES) == {}


@pytest.mark.parametrize(
    "task", [EXCLUSIVE, WITH_NEGATIVE, ORDERED], ids=["exclusive", "negative", "ordered"]
)
def test_each_class_of_each_arm_has_a_line_with_its_numbers(tmp_path: Path, task: TaskConfig):
    rows = class_trial_rows(("ours", "ours+mb"), task=task)
    found = write_statistics(tmp_path, rows=rows, positive="", seed=0, task=task)
    lines = class_lines(found, task=task)
    heads = next(line for line in lines if line.startswith("arm "))
    assert ("Kappa" in heads) == task.ordinal
    at = lines.index("by class, with 95% interval by case:")
    table = [line.split("  ") for line in lines[at + 2 :]]
    names = ["low or higher", "high"] if task.ordinal else list(task.branch_names)
    assert [cells[0] for cells in table] == [name for name in names for _ in range(2)]
    values = {(one.class_name, one.arm, one.metric): one for one in found.intervals}
    last = values[task.names[-1], "ours+mb", "pooled_auc"]
    assert f"{last.value:.3f}".lstrip("0") in lines[-1]
    assert set(class_values(found, task=task)["classes"]) == set(task.branch_names)
