from pathlib import Path

import pytest
from tests.support.reports import Page
from tests.support.studies import Hardmil, read_csv

from hardmil.commands import demo
from hardmil.commands.demo import ABOUT, ARMS, CLASS_ARMS, demo_config, result_lines
from hardmil.config.study_file import commented_yaml
from hardmil.evaluation.arm_name import with_controls
from hardmil.files.csv_table import write_table
from hardmil.statistics.intervals import Interval
from hardmil.statistics.summary import SUMMARY_COLUMNS, VALUES, SummaryRow

pytestmark = pytest.mark.slow


def test_the_report_says_what_the_slides_are_and_speaks_of_what_was_run(
    hardmil: Hardmil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small cohort; sixteen training slides leave four of each label in an inner fold."""
    monkeypatch.setattr(demo, "N_TRAIN", 8)
    monkeypatch.setattr(demo, "N_TEST", 4)
    run = hardmil("demo", "--output", tmp_path, "--quiet")
    assert run.code == 0, run.err
    report = tmp_path / "runs" / "demo" / "report.html"
    assert run.out.splitlines()[-2:] == [
        f"report: {report}",
        f"judge patches in a browser: hardmil review {tmp_path} --run demo",
    ]
    assert ABOUT in run.out
    page = Page(report.read_text(encoding="utf-8"))
    assert ABOUT in page.text
    assert page.text.index(ABOUT) < page.text.index("Research use")
    assert "other folds" not in page.text, "there is one fold"
    results = read_csv(tmp_path / "runs" / "demo" / "results.csv")
    assert [row["arm"] for row in results] == list(ARMS)
    assert all(row["op_threshold"] for row in results)
    assert "8 held-out slides, at the threshold set on the 16 training slides" in run.out


def test_a_folder_with_other_slides_is_left_as_it_is(hardmil: Hardmil, tmp_path: Path) -> None:
    table = tmp_path / "slides.csv"
    table.write_text("slide_id,case_id,label,path\nmine,c1,tumour,mine.svs\n")
    run = hardmil("demo", "--output", tmp_path)
    assert run.code == 1
    assert f"{table}: found 1 slide; expected the 200 of the demo; name another folder" in run.err
    assert not (tmp_path / "study.yaml").exists()


def test_slides_of_another_seed_are_not_taken_for_those_of_this_one(
    hardmil: Hardmil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "N_TRAIN", 1)
    monkeypatch.setattr(demo, "N_TEST", 0)
    rows = ["slide_id,case_id,label,path", "mine,c1,positive,mine.tif", "other,c2,negative,other.tif"]
    (tmp_path / "slides.csv").write_text("\n".join(rows))
    kept = commented_yaml(demo_config(0))
    (tmp_path / "study.yaml").write_text(kept)
    run = hardmil("demo", "--output", tmp_path, "--seed", 3)
    assert run.code == 1
    assert f"{tmp_path}: its slides were drawn with seed 0; expected seed 3; name another folder" in run.err
    assert (tmp_path / "study.yaml").read_text() == kept


def test_the_control_of_each_arm_is_among_its_arms() -> None:
    assert with_controls(demo_config(0).evaluation.arms) == ARMS


def test_result_lines_show_rates_with_limits_and_what_was_mined(tmp_path: Path) -> None:
    found = [
        Interval("ours+fmb", "file", "grid", name, value, low, high, 8, 1)
        for name, value, low, high in (("fpr_op", 0.25, 0.1, 0.5), ("sens_op", 0.9, 0.8, 1.0))
    ]
    values = dict.fromkeys(VALUES, float("nan")) | {"mined_look_alikes": 0.8}
    write_table(tmp_path / "intervals.csv", found, row=Interval)
    write_table(
        tmp_path / "summary.csv",
        [SummaryRow("ours+fmb", "file", "grid", 1, 1, 3, 20, values)],
        row=SummaryRow,
        columns=SUMMARY_COLUMNS,
    )
    lines = result_lines(tmp_path)
    assert "ours+fmb  .250 [.100, .500]    .900 [.800, 1.000]" in lines
    assert lines[-2] == "ours+fmb: 20 patches, 80% of them in look-alikes"


def test_three_classes_are_a_study_of_normal_slides_and_two_lesions() -> None:
    config = demo_config(0, n_classes=3)
    assert (config.task.names, config.task.negative) == (("normal", "lesion A", "lesion B"), "normal")
    assert with_controls(config.evaluation.arms) == CLASS_ARMS
