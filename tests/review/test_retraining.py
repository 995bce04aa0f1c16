from pathlib import Path

import pytest
from tests.support.many_classes import write_class_study
from tests.support.many_labels import write_multi_study
from tests.support.reviews import SIZE, write_reviewed_study
from tests.support.studies import read_csv, write_csv

from hardmil.errors import ConfigError
from hardmil.evaluation.results import ChoiceRow, TrialKey
from hardmil.files.csv_table import write_table
from hardmil.mining.verdict_store import JudgedPatch, NewVerdict, VerdictStore
from hardmil.preprocessing.study_folder import Study, open_study
from hardmil.review.retraining import ComparedArms, compared_arms, retrain
from hardmil.review.rounds import read_rounds, round_words

pytestmark = pytest.mark.slow


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_reviewed_study(tmp_path / "study")


def _judge(study: Study, *, slides: range) -> None:
    """The truth on the first row of some slides: lesions are the first five patches of positive ones."""
    with VerdictStore(study.folder / "review.sqlite") as store:
        for i in slides:
            verdict = "lesion" if i // 2 % 2 else "normal"
            patches = [JudgedPatch(f"s{i}", place * SIZE, 0, SIZE) for place in range(5)]
            store.add([NewVerdict("jo", patch, verdict, "queue") for patch in patches])


def test_a_round_compares_and_is_recorded(study: Study):
    _judge(study, slides=range(24))
    first = retrain(study, quiet=True)
    one = first.round
    assert (one.number, one.arm, one.arm_with_verdicts) == (1, "ours+instance", "ours+instance+verdicts")
    assert (one.n_verdicts, one.n_lesion, one.n_normal, one.n_artefact) == (120, 60, 60, 0)
    assert (one.threshold, first.report.exists()) == ("operating point", True)
    assert one.fpr_low <= one.fpr <= one.fpr_high
    assert one.fpr_difference == pytest.approx(one.fpr_with - one.fpr)
    assert one.sensitivity_difference == pytest.approx(one.sensitivity_with - one.sensitivity)
    assert one.fpr_difference_low <= one.fpr_difference <= one.fpr_difference_high
    assert "ours has no instance loss: it is added to both arms (+instance)" in first.notes
    (read,) = read_rounds(study)
    assert (read.number, read.at, read.verdicts) == (1, one.at, one.verdicts)
    assert read.fpr_difference_low == pytest.approx(one.fpr_difference_low)
    words = round_words(one)
    assert words[0].startswith(
        "round 1: ours+instance+verdicts beside ours+instance, with verdicts on 120 patches (60 lesion, 60 "
    )
    assert words[1].startswith(f"false-positive rate: {one.fpr:.3f} [")


def test_the_same_verdicts_are_the_same_round_and_more_are_a_new_one(study: Study):
    _judge(study, slides=range(12))
    first = retrain(study, quiet=True).round
    again = retrain(study, quiet=True).round
    assert (again.number, again.fpr_with, again.verdicts) == (1, first.fpr_with, first.verdicts)
    _judge(study, slides=range(12, 24))
    second = retrain(study, quiet=True).round
    assert (second.number, second.n_verdicts, second.fpr) == (2, 120, first.fpr)
    assert [one.number for one in read_rounds(study)] == [1, 2]


def test_without_verdicts_there_is_no_round(study: Study):
    with pytest.raises(ConfigError, match=r"no verdict on any patch; .*judge patches first: hardmil review"):
        retrain(study, quiet=True)
    with VerdictStore(study.folder / "review.sqlite") as store:
        store.add([NewVerdict("jo", JudgedPatch("s2", 0, 0, SIZE), "unsure", "queue")])
    with pytest.raises(ConfigError, match="no verdict on any patch"):
        retrain(study, quiet=True)


def test_splits_that_train_on_no_judged_slide_are_replaced(study: Study):
    rows = [{"slide_id": f"s{i}", "fold_0": "train" if i < 12 else "test"} for i in range(24)]
    write_csv(study.folder / "splits.csv", rows)
    held_out = open_study(study.folder, overrides=["evaluation.splits=splits.csv"])
    _judge(study, slides=range(12, 24))
    found = retrain(held_out, quiet=True)
    assert any("a fold of splits.csv trains on no judged slide: 3 folds" in note for note in found.notes)
    assert found.round.n_verdicts == 60


@pytest.mark.parametrize(
    ("arm", "without", "with_verdicts"),
    [
        ("ours+instance", "ours+instance", "ours+instance+verdicts"),
        ("abmil-top5", "abmil-top5+instance", "abmil-top5+instance+verdicts"),
        ("ours+instance+verdicts-3", "ours+instance", "ours+instance+verdicts"),
        ("ours+fmb-oof+instance", "ours+fmb-oof+instance", "ours+fmb-oof+instance+verdicts"),
        ("ours+fmb@random", "ours+fmb+instance", "ours+fmb+instance+verdicts"),
        ("sdr-svm", "ours+instance", "ours+instance+verdicts"),
        ("auto", "ours+instance", "ours+instance+verdicts"),
    ],
)
def test_the_arms_are_those_of_the_study(study: Study, arm: str, without: str, with_verdicts: str):
    found = compared_arms(open_study(study.folder, overrides=[f"arm={arm}"]))
    assert (found.without, found.with_verdicts) == (without, with_verdicts)
    assert bool(found.notes) == (arm not in ("ours+instance", "ours+fmb-oof+instance"))


def test_auto_is_what_it_chose_most_often(study: Study):
    chosen = ["abmil-mean+instance", "abmil-mean+instance", "ours"]
    rows = [
        ChoiceRow(TrialKey("auto", "case", "features", 0, fold), one, "auc", "ours", 0.5, 0.0, 0.1)
        for fold, one in enumerate(chosen)
    ]
    write_table(study.folder / "runs" / "main" / "choices.csv", rows, row=ChoiceRow)
    found = compared_arms(open_study(study.folder, overrides=["arm=auto"]))
    notes = ("auto chose abmil-mean+instance most often: it is compared with and without verdicts",)
    assert found == ComparedArms("abmil-mean+instance", "abmil-mean+instance+verdicts", notes)


def test_a_round_of_three_classes_has_means_and_verdicts_by_class(tmp_path: Path):
    study = open_study(write_class_study(tmp_path / "study"))
    with VerdictStore(study.folder / "review.sqlite") as store:
        for i in range(18):
            name = ("normal", "a", "b")[i % 3]
            patches = [JudgedPatch(f"s{i}", place * 256, 512, 256) for place in range(2)]
            kind = "lesion" if i % 3 else "normal"
            store.add([NewVerdict("jo", one, kind, "queue", class_name=name) for one in patches])
    found = retrain(study, quiet=True)
    one = found.round
    assert (one.arm, one.arm_with_verdicts) == ("ours+instance", "ours+instance+verdicts")
    assert (one.n_verdicts, one.n_lesion, one.n_normal, one.n_of_class) == (36, 24, 12, {"a": 12, "b": 12})
    rows = {(row["arm"], row["metric"]): row for row in _macro_intervals(study)}
    assert one.fpr_with == pytest.approx(float(rows[one.arm_with_verdicts, "fpr_op"]["value"]))
    assert one.sensitivity == pytest.approx(float(rows[one.arm, "sens_op"]["value"]))
    (read,) = read_rounds(study)
    assert read.n_of_class == {"a": 12, "b": 12}
    assert (
        "(12 a, 12 b, 12 normal, 0 artefact), at threshold operating point, means over the classes"
        in (round_words(one)[0])
    )


def _macro_intervals(study: Study) -> list[dict[str, str]]:
    rows = read_csv(study.folder / "runs" / "review" / "intervals.csv")
    return [row for row in rows if row["class_name"] == "macro"]


def test_a_round_of_several_labels_has_means_and_verdicts_by_class(tmp_path: Path):
    study = open_study(write_multi_study(tmp_path / "study"), overrides=["training.epochs=5"])
    with VerdictStore(study.folder / "review.sqlite") as store:
        for i in range(24):
            # The truth: patches 2 k and 2 k + 1 are of class k; the last one is of none.
            patches = {
                JudgedPatch(f"s{i}", 2 * k * 256, 512, 256): "abc"[k] for k in range(3) if i % 8 >> k & 1
            }
            store.add(
                [NewVerdict("jo", one, "lesion", "queue", class_name=name) for one, name in patches.items()]
                + [NewVerdict("jo", JudgedPatch(f"s{i}", 11 * 256, 512, 256), "normal", "queue")]
            )
        # The slide has a alone.
        store.add([NewVerdict("jo", JudgedPatch("s1", 2560, 512, 256), "lesion", "queue", class_name="b")])
    found = retrain(study, quiet=True)
    one = found.round
    assert (one.n_verdicts, one.n_lesion, one.n_normal) == (60, 36, 24)
    assert one.n_of_class == {"a": 12, "b": 12, "c": 12}
    rows = {(row["arm"], row["metric"]): row for row in _macro_intervals(study)}
    assert one.fpr_with == pytest.approx(float(rows[one.arm_with_verdicts, "fpr_op"]["value"]))
    assert one.sensitivity == pytest.approx(float(rows[one.arm, "sens_op"]["value"]))
    assert "(12 a, 12 b, 12 c, 24 normal, 0 artefact), at threshold" in round_words(one)[0]
    assert any("b in a slide labelled a (jo): 1 patch" in note for note in found.notes)
