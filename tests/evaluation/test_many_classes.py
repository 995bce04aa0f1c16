"""Trials of more than two classes."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.evaluations import CPU, STUDY
from tests.support.many_classes import EXCLUSIVE, ORDERED, WITH_NEGATIVE, class_bags, class_score
from tests.support.many_labels import MULTI, multi_bags, multi_score

from hardmil.bags.folds import Fold
from hardmil.config.evaluation import parse_operating_target
from hardmil.config.study import StudyConfig
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.evaluation.arms import arm
from hardmil.evaluation.cohort import Cohort, cases_by_class, make_cohort
from hardmil.evaluation.results import PREDICTIONS, RESULTS, TrialKey
from hardmil.evaluation.trainer import Trainer
from hardmil.evaluation.trial import OperatingSettings, Trial, run_trial, whole_arm_out_of_fold
from hardmil.evaluation.trial_records import trial_tables
from hardmil.evaluation.truth import instance_auc, kind_of_region, verdicts_of_truth
from hardmil.mil.class_calibration import fit_class_calibration
from hardmil.mil.class_metrics import class_metrics
from hardmil.mil.class_scores import scores_by_class
from hardmil.mil.operating import choose_threshold

pytestmark = pytest.mark.slow

TARGET = OperatingSettings("sensitivity=0.9", 2)
TASKS = [
    pytest.param(EXCLUSIVE, id="exclusive"),
    pytest.param(WITH_NEGATIVE, id="negative"),
    pytest.param(ORDERED, id="ordered"),
]


def _classes(task: TaskConfig) -> dict[str, Any]:
    return {"classes": list(task.names), "negative": task.negative, "ordinal": task.ordinal}


def _trial(name: str, *, task: TaskConfig = EXCLUSIVE) -> Trial:
    study = StudyConfig.model_validate(STUDY | _classes(task))
    fold = Fold(train=np.arange(12), test=np.arange(12, 18))
    chosen = arm(name, study=study, kind="features")
    return Trial(chosen, repeat=0, fold_number=1, fold=fold, seed=3, operating=TARGET)


def _trainer(folder: Path, cohort: Cohort) -> Trainer:
    return Trainer(folder, cohort.digest, CPU)


@pytest.mark.parametrize("task", TASKS)
def test_each_branch_has_its_threshold_and_all_classes_a_calibration(tmp_path: Path, task: TaskConfig):
    cohort, trial = make_cohort(class_bags()), _trial("ours", task=task)
    trainer = _trainer(tmp_path, cohort)
    result = run_trial(trial, cohort=cohort, trainer=trainer)
    training = cohort.bags[:12]
    found = whole_arm_out_of_fold(training, trial=trial, cohort=cohort, trainer=trainer)
    assert found is not None
    labels, scores = cohort.labels[:12], scores_by_class(found, task=task)
    wanted = parse_operating_target(TARGET.target)
    expected = [
        choose_threshold(yes.astype(np.int64), one, wanted=wanted)
        for yes, one in zip(task.answers(labels).T, task.branch_scores(scores).T, strict=True)
    ]
    assert result.op_thresholds == tuple(expected)
    assert np.isnan(result.op_threshold)
    tested = scores_by_class(result.test_scores, task=task)
    calibration = fit_class_calibration(labels, scores, method="temperature", task=task)
    np.testing.assert_allclose(result.probabilities, calibration.probabilities(tested))
    metrics = class_metrics(cohort.labels[12:], tested, task=task)
    np.testing.assert_equal(asdict(result.metrics), asdict(metrics))


def test_rows_of_a_trial_have_the_columns_of_its_classes(tmp_path: Path):
    cohort, trial = make_cohort(class_bags()), _trial("ours+inject-oof")
    result = run_trial(trial, cohort=cohort, trainer=_trainer(tmp_path, cohort))
    tables = trial_tables(
        result,
        trial=TrialKey("ours+inject-oof", "case", "features", 0, 1),
        config_hash="x",
        test=cohort.bags[12:],
        classes=EXCLUSIVE.names,
        task=EXCLUSIVE,
    )
    (row,) = tables[RESULTS]
    assert {"op_threshold_normal", "op_threshold_a", "op_threshold_b"} <= set(row)
    for line, score in zip(tables[PREDICTIONS], result.test_scores, strict=True):
        assert score.class_scores is not None
        for k, name in enumerate(EXCLUSIVE.names):
            called = score.class_scores[k] > result.op_thresholds[k]
            assert float(line[f"called_{name}"]) == called
            assert float(line[f"score_{name}"]) == pytest.approx(score.class_scores[k], rel=1e-8)


def test_auto_chooses_for_many_classes(tmp_path: Path):
    cohort, trial = make_cohort(class_bags()), _trial("auto")
    result = run_trial(trial, cohort=cohort, trainer=_trainer(tmp_path, cohort))
    assert result.choice is not None
    assert result.choice.chosen in {one.name for one in trial.arm.candidates}
    assert all(0 <= one.value <= 1 for one in result.choice.candidates)


def test_the_hash_of_a_trial_depends_on_its_classes():
    cohort = make_cohort(class_bags())
    tasks = (EXCLUSIVE, ORDERED, WITH_NEGATIVE)
    hashes = {_trial("ours", task=task).config_hash(cohort) for task in tasks}
    assert len(hashes) == 3


def test_attention_is_measured_for_the_class_of_the_bag():
    bags = class_bags(6)
    scores = [class_score(bag, [0.5, 0.3, 0.2]) for bag in bags]
    truth = {bag.slide_id: np.eye(len(bag), dtype=np.int8)[bag.label] for bag in bags}
    # The branch of class k attends to instance k, whatever the bag is called.
    assert instance_auc(bags, scores=scores, truth=truth, task=EXCLUSIVE) == 1
    one_off = {bag.slide_id: np.eye(len(bag), dtype=np.int8)[bag.label - 1] for bag in bags}
    assert instance_auc(bags, scores=scores, truth=one_off, task=EXCLUSIVE) < 0.6
    # Of ordered classes, branch k - 1 asks for class k or higher, and normal bags have no branch.
    ordered = [class_score(bag, [0.5, 0.3, 0.2], task=ORDERED) for bag in bags]
    assert instance_auc(bags, scores=ordered, truth=one_off, task=ORDERED) == 1


def test_regions_may_name_the_class_of_a_lesion():
    assert [kind_of_region(name) for name in ("lesion", "lesion A", "look-alike B")] == [1, 1, 2]
    assert kind_of_region("lesions") is None


def test_cases_are_counted_by_class():
    cohort = make_cohort(class_bags(9, slides_a_case=2))
    assert cases_by_class(cohort, task=EXCLUSIVE) == {"normal": 2, "a": 2, "b": 1}
    assert cases_by_class(cohort, task=TWO_CLASSES) == {}


def test_truth_without_classes_is_used_where_a_bag_has_one_class_alone():
    bags = [bag for bag in multi_bags(8) if bag.label in (0b001, 0b011, 0b100)]
    scores = [multi_score(bag, (0.9, 0.8, 0.7)) for bag in bags]
    # Branch k attends to instance k: of class a, the first is a lesion; of c, the third.
    truth = {bag.slide_id: np.eye(len(bag), dtype=np.int8)[MULTI.only_class(bag.label) or 0] for bag in bags}
    assert instance_auc(bags, scores=scores, truth=truth, task=MULTI) == 1
    several = [bag for bag in bags if bag.label == 0b011]
    assert np.isnan(instance_auc(several, scores=scores[1:2], truth=truth, task=MULTI))
    said = verdicts_of_truth(truth, labels={bag.slide_id: bag.label for bag in bags}, task=MULTI)
    values = [said[bag.slide_id][MULTI.only_class(bag.label) or 0] for bag in bags]
    np.testing.assert_array_equal(values, [1, np.nan, 3])


def test_cases_with_and_without_each_label_are_counted():
    cohort = make_cohort(multi_bags(4, slides_a_case=2))
    expected = {"a": 1, "b": 0, "c": 0}
    expected |= {"slides without a": 1, "slides without b": 2, "slides without c": 2}
    assert cases_by_class(cohort, task=MULTI) == expected
