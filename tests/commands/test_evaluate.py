import json
import re
from pathlib import Path

import pytest
from tests.support.many_classes import NAMES, ORDERED, WITH_NEGATIVE, write_class_study
from tests.support.reports import Page
from tests.support.studies import Hardmil, quick, read_csv

from hardmil.config.task import TaskConfig

pytestmark = pytest.mark.slow


def _results(folder: Path) -> list[dict[str, str]]:
    rows = read_csv(folder / "results.csv")
    return [{name: text for name, text in row.items() if name != "seconds"} for row in rows]


def test_two_workers_write_what_one_writes(hardmil: Hardmil, feature_study: Path):
    for name, workers in (("one", 1), ("two", 2)):
        run = hardmil("evaluate", feature_study, "--name", name, "--workers", workers, "--json", *quick())
        assert run.code == 0, run.err
        assert json.loads(run.out)["failures"] == {}
        report = (feature_study / "runs" / name / "report.html").read_text(encoding="utf-8")
        assert all("Only 12 cases: with fewer than 40" in text for text in (run.text, report))
    assert _results(feature_study / "runs" / "two") == _results(feature_study / "runs" / "one")


def test_where_every_trial_fails_the_first_is_named(hardmil: Hardmil, feature_study: Path):
    run = hardmil("evaluate", feature_study, *quick("training.lr=1e30"))
    assert run.code == 1
    assert re.search("none of 9 trials.* abmil, repeat 0, fold 0:", run.err)
    assert "Traceback" in (feature_study / "runs" / "main" / "failures.log").read_text()


def test_a_second_evaluation_trains_nothing_and_a_changed_setting_does(
    hardmil: Hardmil, feature_study: Path
) -> None:
    hardmil("evaluate", feature_study, "--set", "evaluation.arms=[ours]")
    results = feature_study / "runs" / "main" / "results.csv"
    first = results.read_bytes()
    hardmil("evaluate", feature_study, "--set", "evaluation.arms=[ours]")
    assert results.read_bytes() == first
    hardmil("evaluate", feature_study, "--set", "evaluation.arms=[ours]", "--set", "training.epochs=2")
    changed = read_csv(results)
    assert len(changed) == 3
    assert results.read_bytes() != first


def test_copies_in_different_cases_are_named_on_the_terminal_and_the_report(
    hardmil: Hardmil, feature_study: Path
) -> None:
    quick = ("--set", "evaluation.arms=[ours]", "--set", "training.epochs=1")
    clean = hardmil("evaluate", feature_study, *quick)
    assert "identical patches" not in clean.text
    feats = feature_study / "feats"
    (feats / "s5.h5").write_bytes((feats / "s3.h5").read_bytes())
    run = hardmil("evaluate", feature_study, *quick)
    assert run.code == 0, run.err
    said = "1 pair of slides in different cases with identical or nearly identical patches"
    assert f"note: {said}" in run.text
    assert "first s3 (case c3) and s5 (case c5)" in run.text
    page = (feature_study / "runs" / "main" / "report.html").read_text(encoding="utf-8")
    assert f'<p class="warning">{said}' in page


@pytest.mark.parametrize("task", [WITH_NEGATIVE, ORDERED], ids=["exclusive", "ordered"])
def test_a_study_of_many_classes_has_numbers_of_each(hardmil: Hardmil, tmp_path: Path, task: TaskConfig):
    study = write_class_study(tmp_path / "study", ordinal=task.ordinal)
    run = hardmil("evaluate", study, "--json", *quick("training.epochs=8"))
    assert run.code == 0, run.err
    folder = study / "runs" / "main"
    branches = set(task.branch_names)
    for name in ("summary", "intervals", "comparisons"):
        assert {row["class_name"] for row in read_csv(folder / f"{name}.csv")} == {"macro", *branches}
    for row in read_csv(folder / "predictions.csv"):
        scores = {name: float(row[f"score_{name}"]) for name in task.names}
        assert sum(scores.values()) == pytest.approx(1)
        assert sum(float(row[f"prob_{name}"]) for name in task.names) == pytest.approx(1)
        assert {row[f"called_{name}"] for name in branches} <= {"0", "1"}
        assert float(row["bag_score"]) == scores[row["prediction"]]
    assert {row["hard_for"] for row in read_csv(folder / "hard_negatives.csv")} <= branches
    assert set(json.loads(run.out)["classes"]) == branches
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    for name in task.names:
        assert f"Called {name}" in page.text
    assert ("Kappa" in page.text) == task.ordinal


def test_every_class_must_have_a_training_slide_in_each_fold(hardmil: Hardmil, tmp_path: Path):
    study = write_class_study(tmp_path / "study", n=9)
    run = hardmil("evaluate", study, "--set", "evaluation.folds=4")
    assert run.code == 1
    assert f"class {NAMES[0]}: 3 cases for 4 folds; expected at least one per fold; use 3 folds" in run.err
