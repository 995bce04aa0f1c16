from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.trainings import small_bags

from hardmil.bags.bag import Bag
from hardmil.bags.folds import Fold, inner_folds
from hardmil.config.evaluation import AutoConfig, EvaluationConfig
from hardmil.config.study import StudyConfig
from hardmil.device import Device
from hardmil.errors import ConfigError, FoldError
from hardmil.evaluation import trainer as trainer_module
from hardmil.evaluation import trial as trial_module
from hardmil.evaluation.arms import arm
from hardmil.evaluation.cohort import Cohort, make_cohort
from hardmil.evaluation.trainer import Trainer
from hardmil.evaluation.trial import (
    OperatingSettings,
    Trial,
    longest_training,
    operating_settings,
    run_trial,
    whole_arm_out_of_fold,
)
from hardmil.metrics import binary_metrics
from hardmil.mil import fisher as fisher_module
from hardmil.mil.calibration import fit_calibration
from hardmil.mil.fisher import fit_fisher
from hardmil.mil.inference import bag_scores, score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import fit
from hardmil.mining import procedure as procedure_module
from hardmil.mining.procedure import MEMBER_STEP, Mined, train_and_mine

CPU = Device("cpu", bfloat16=False)
STUDY = StudyConfig.model_validate(
    {
        "network": {"embedding_dim": 4, "dropout": 0.1},
        "pooling": {"attention_dim": 3},
        "training": {"epochs": 2, "lr": 0.02},
        "mining": {"threshold": 0.0, "n_clusters": 2, "inner_folds": 2},
    }
)


def _trial(name: str = "ours+fmb", *, study: StudyConfig = STUDY, seed: int = 3) -> Trial:
    fold = Fold(train=np.arange(8), test=np.arange(8, 12))
    return Trial(arm(name, study=study, kind="features"), repeat=0, fold_number=1, fold=fold, seed=seed)


def _trainer(folder: Path, cohort: Cohort) -> Trainer:
    return Trainer(folder, cohort.digest, CPU)


def test_the_hash_changes_with_anything_the_numbers_depend_on():
    cohort, first = make_cohort(small_bags()), _trial()
    study = STUDY.model_copy(update={"mining": STUDY.mining.model_copy(update={"n_clusters": 3})})
    longer = STUDY.model_copy(update={"training": STUDY.training.model_copy(update={"epochs": 3})})
    other_fisher = STUDY.model_copy(update={"fisher": STUDY.fisher.model_copy(update={"step": 9})})
    other_test = replace(first, fold=Fold(np.arange(8), np.arange(8, 11)))
    other_fold = replace(first, fold=Fold(np.arange(9), np.arange(9, 12)))
    hashes = [
        first.config_hash(cohort),
        first.config_hash(make_cohort(small_bags()[::-1])),
        _trial(seed=4).config_hash(cohort),
        _trial("ours+mb").config_hash(cohort),
        _trial("ours+fmb@random").config_hash(cohort),
        _trial("abmil+fmb").config_hash(cohort),
        _trial(study=study).config_hash(cohort),
        _trial(study=longer).config_hash(cohort),
        other_fold.config_hash(cohort),
        other_test.config_hash(cohort),
        _trial("sdr-svm").config_hash(cohort),
        _trial("sdr-svm", study=other_fisher).config_hash(cohort),
    ]
    assert len(set(hashes)) == len(hashes)
    assert _trial().config_hash(cohort) == hashes[0]


def test_the_hash_changes_with_the_version_of_the_code(monkeypatch: pytest.MonkeyPatch):
    cohort = make_cohort(small_bags())
    before = _trial().config_hash(cohort)
    monkeypatch.setattr(trial_module, "CODE_VERSION", trial_module.CODE_VERSION + 1)
    assert _trial().config_hash(cohort) != before


def test_a_training_on_another_case_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cohort = make_cohort(small_bags())

    def leaking(bags: Sequence[Bag], **rest: Any) -> Mined:
        return train_and_mine([*bags, cohort.bags[9]], **rest)

    monkeypatch.setattr(procedure_module, "train_and_mine", leaking)
    with pytest.raises(FoldError, match=r"arm ours\+fmb, fold 1: a training bag comes from case c9"):
        run_trial(_trial(), cohort=cohort, trainer=_trainer(tmp_path, cohort))


def test_the_hash_of_an_arm_that_does_not_mine_does_not_mind_the_mining_settings():
    cohort = make_cohort(small_bags())
    study = STUDY.model_copy(update={"mining": STUDY.mining.model_copy(update={"n_clusters": 3})})
    assert _trial("ours").config_hash(cohort) == _trial("ours", study=study).config_hash(cohort)


def test_a_trial_trains_on_its_training_fold_and_scores_its_test_fold(
    tmp_path: Path, n_fits: list[list[str]]
):
    cohort = make_cohort(small_bags())
    result = run_trial(_trial("ours+fmb-oof"), cohort=cohort, trainer=_trainer(tmp_path, cohort))
    train = {f"s{i}" for i in range(8)}
    assert [len(slides) for slides in n_fits] == [8, 4, 4, 8]
    assert all(set(slides) <= train for slides in n_fits)
    assert result.hard_negatives
    assert {one.slide_id for one in result.hard_negatives} <= {f"s{i}" for i in range(0, 8, 2)}
    assert result.n_false_positive_bags == 4
    values = np.array([score.bag_score for score in result.test_scores])
    np.testing.assert_equal(asdict(result.metrics), asdict(binary_metrics(np.array([0, 1, 0, 1]), values)))
    assert result.seconds > 0


@pytest.mark.parametrize("name", ["ours+sb", "ours+mb", "ours+fmb", "ours+fmb@random", "ours+fmb-equal"])
def test_arms_share_one_base(name: str, tmp_path: Path, n_fits: list[list[str]]):
    cohort = make_cohort(small_bags())
    trainer = _trainer(tmp_path, cohort)
    run_trial(_trial("ours"), cohort=cohort, trainer=trainer)
    assert len(n_fits) == 1
    run_trial(_trial(name), cohort=cohort, trainer=trainer)
    assert len(n_fits) == 2


OPERATING = OperatingSettings("sensitivity=0.75", n_folds=2)


def _scores_of(trial: Trial, cohort: Cohort, *, inside: list[int], seed: int, of: list[int]) -> list[float]:
    """The whole arm, written out: trained on some bags, what it says of others."""
    mined = train_and_mine(
        [cohort.bags[i] for i in inside],
        config=trial.arm.model,
        mining=trial.arm.mining,
        seed=seed,
        train=partial(fit, device=CPU),
    )
    return [score.bag_score for score in score_bags(mined.model, [cohort.bags[i] for i in of])]


@pytest.mark.parametrize("name", ["ours", "ours+fmb-oof", "ours+inject-oof", "ours+weigh-oof@random"])
def test_the_operating_point_keeps_the_wanted_share_of_scores_out_of_fold_of_the_whole_arm(
    name: str, tmp_path: Path
):
    cohort = make_cohort(small_bags())
    trial = replace(_trial(name), operating=OPERATING)
    result = run_trial(trial, cohort=cohort, trainer=_trainer(tmp_path, cohort))
    labels, cases = cohort.labels[:8], cohort.cases[:8]
    scores = np.zeros(8)
    for number, fold in enumerate(inner_folds(labels, cases, n_folds=2, seed=trial.seed)):
        inside, outside = fold.train.tolist(), fold.test.tolist()
        scores[outside] = _scores_of(trial, cohort, inside=inside, seed=trial.seed + 1 + number, of=outside)
    assert np.mean(scores[labels == 1] > result.op_threshold) == 0.75
    assert result.op_threshold == np.nextafter(np.sort(scores[labels == 1])[1], -np.inf)


def test_the_operating_point_shares_the_models_of_out_of_fold_mining(tmp_path: Path, n_fits: list[list[str]]):
    cohort = make_cohort(small_bags())
    trainer = _trainer(tmp_path, cohort)
    run_trial(replace(_trial("ours"), operating=OPERATING), cohort=cohort, trainer=trainer)
    assert [len(slides) for slides in n_fits] == [8, 4, 4]
    run_trial(_trial("ours+fmb-oof"), cohort=cohort, trainer=trainer)
    assert [len(slides) for slides in n_fits[3:]] == [8]


def test_no_operating_point_where_none_is_wanted_or_cases_are_too_few(tmp_path: Path):
    cohort = make_cohort(small_bags())
    trainer = _trainer(tmp_path, cohort)
    assert np.isnan(run_trial(_trial("ours"), cohort=cohort, trainer=trainer).op_threshold)
    few = replace(_trial("ours"), fold=Fold(np.arange(4), np.arange(4, 12)), operating=OPERATING)
    assert np.isnan(run_trial(few, cohort=cohort, trainer=trainer).op_threshold)
    assert operating_settings(EvaluationConfig(operating_folds=0)) is None
    fewest = operating_settings(EvaluationConfig(operating_folds=1))
    assert fewest is not None
    assert fewest.n_folds == 2, "one fold has nothing to train on"
    config = EvaluationConfig(operating_point="fpr=0.1", operating_folds=3, calibration="isotonic")
    assert operating_settings(config) == OperatingSettings("fpr=0.1", 3, "isotonic")


def test_the_hash_of_a_trial_changes_with_its_operating_point_and_is_as_before_for_a_sensitivity():
    cohort = make_cohort(small_bags())
    targets = ["sensitivity=0.75", "sensitivity=0.8", "fpr=0.75", "youden"]
    trials = [replace(_trial("ours"), operating=OperatingSettings(one, 2)) for one in targets]
    isotonic = replace(_trial("ours"), operating=OperatingSettings("sensitivity=0.75", 2, "isotonic"))
    assert len({trial.config_hash(cohort) for trial in [*trials, isotonic]}) == 5
    assert OperatingSettings("sensitivity=0.9", 4).key() == [0.9, 4]


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_probabilities_are_those_of_the_scores_out_of_fold(method: Any, tmp_path: Path):
    cohort = make_cohort(small_bags())
    trial = replace(_trial("ours"), operating=replace(OPERATING, calibration=method))
    trainer = _trainer(tmp_path, cohort)
    result = run_trial(trial, cohort=cohort, trainer=trainer)
    training = [cohort.bags[i] for i in trial.fold.train]
    scores = whole_arm_out_of_fold(training, trial=trial, cohort=cohort, trainer=trainer)
    assert scores is not None
    calibration = fit_calibration(cohort.labels[trial.fold.train], bag_scores(scores), method=method)
    test_scores = np.array([score.bag_score for score in result.test_scores])
    assert result.probabilities is not None
    np.testing.assert_array_equal(result.probabilities, calibration.probabilities(test_scores))
    assert (np.diff(result.probabilities[np.argsort(test_scores)]) >= 0).all()


def test_verdicts_reach_the_training_and_nothing_of_the_test_fold_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    truth = {bag.slide_id: np.array([bag.label, 0, 2, 0, 0], np.int8) for bag in small_bags()}
    cohort = make_cohort(small_bags(), truth=truth)
    trained: list[list[Bag]] = []

    def seen(bags: Any, **rest: Any) -> BagClassifier:
        trained.append(list(bags))
        return fit(bags, **rest)

    monkeypatch.setattr(trainer_module, "fit", seen)
    result = run_trial(_trial("ours+verdicts-2-random"), cohort=cohort, trainer=_trainer(tmp_path, cohort))
    base, judged = trained
    assert all(bag.instance_labels is None for bag in base)
    for bag in judged:
        labels = bag.instance_labels
        if bag.label == 0:
            assert labels is None
            continue
        assert labels is not None
        known = ~np.isnan(labels)
        assert known.sum() == 2
        np.testing.assert_array_equal(labels[known], (truth[bag.slide_id] == 1)[known])
    assert {bag.slide_id for bag in judged} == {f"s{i}" for i in range(8)}
    assert 0 <= result.instance_auc <= 1
    plain = make_cohort(small_bags())
    with pytest.raises(ConfigError, match=r"arm ours\+verdicts: no verdict on any patch of the training"):
        run_trial(_trial("ours+verdicts"), cohort=plain, trainer=_trainer(tmp_path, plain))


def test_the_hash_of_an_arm_that_uses_verdicts_changes_with_them():
    truth = {"s1": np.array([1, 0, 0, 0, 0], np.int8)}
    other = {"s1": np.array([0, 1, 0, 0, 0], np.int8)}
    cohorts = [make_cohort(small_bags(), truth=known) for known in (truth, other)]
    assert len({_trial("ours+verdicts").config_hash(cohort) for cohort in cohorts}) == 2
    assert len({_trial("ours").config_hash(cohort) for cohort in cohorts}) == 1
    wanted = replace(_trial("ours"), operating=OPERATING).config_hash(cohorts[0])
    assert wanted != _trial("ours").config_hash(cohorts[0])


def test_sdr_svm_is_fitted_on_the_training_fold_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cohort = make_cohort(
        small_bags(), truth={bag.slide_id: np.array([1, 0, 0, 0, 0], np.int8) for bag in small_bags()}
    )
    fitted: list[set[str]] = []

    def seen(bags: Any, **rest: Any) -> Any:
        fitted.append({bag.slide_id for bag in bags})
        return fit_fisher(bags, **rest)

    monkeypatch.setattr(fisher_module, "fit_fisher", seen)
    trial = replace(_trial("sdr-svm"), operating=OPERATING)
    result = run_trial(trial, cohort=cohort, trainer=_trainer(tmp_path, cohort))
    assert [len(slides) for slides in fitted] == [8, 4, 4]
    assert set.union(*fitted) == {f"s{i}" for i in range(8)}
    assert np.isnan(result.instance_auc)
    assert not np.isnan(result.op_threshold)
    for score in result.test_scores:
        assert 0 < score.bag_score < 1
        np.testing.assert_allclose(score.attention, 0.2)
    assert len(list((tmp_path / "descriptors").glob("*.npy"))) == 12
    again = run_trial(trial, cohort=cohort, trainer=_trainer(tmp_path, cohort))
    assert [s.bag_score for s in again.test_scores] == [s.bag_score for s in result.test_scores]


def test_a_progress_bar_is_as_long_as_the_longest_training():
    lengths = {
        name: longest_training(arm(name, study=STUDY, kind="features"))
        for name in ("ours", "ours+fmb", "ours+fmb-oof", "ours+fmb-oof-rounds", "ours+verdicts")
    }
    assert lengths == {
        "ours": 2, "ours+fmb": 4, "ours+fmb-oof": 8, "ours+fmb-oof-rounds": 20, "ours+verdicts": 4
    }  # fmt: skip
    assert longest_training(arm("ours+fmb", study=STUDY, kind="features"), n_operating_folds=2) == 12
    assert longest_training(arm("ours", study=StudyConfig(), kind="pixels")) == 120


CANDIDATES = ("ours", "ours-top2", "abmil", "ours+fmb-oof")
AUTO = STUDY.model_copy(update={"auto": AutoConfig(candidates=CANDIDATES)})


def test_auto_gives_the_result_of_the_candidate_it_takes(tmp_path: Path, n_fits: list[list[str]]):
    cohort = make_cohort(small_bags())
    trainer = _trainer(tmp_path, cohort)
    trial = replace(_trial("auto", study=AUTO), operating=OPERATING)
    result = run_trial(trial, cohort=cohort, trainer=trainer)
    assert all(set(slides) <= {f"s{i}" for i in range(8)} for slides in n_fits), "test bags choose nothing"
    assert result.choice is not None
    labels = cohort.labels[:8]
    for one in result.choice.candidates:
        alone = replace(trial, arm=arm(one.name, study=AUTO, kind="features"))
        bags = cohort.bags[:8]
        scores = whole_arm_out_of_fold(bags, trial=alone, cohort=cohort, trainer=trainer)
        assert scores is not None
        assert one.value == binary_metrics(labels, bag_scores(scores)).auc
    best = max(result.choice.candidates, key=lambda one: one.value)
    assert result.choice.chosen == best.name
    alone = replace(trial, arm=arm(best.name, study=AUTO, kind="features"))
    same = run_trial(alone, cohort=cohort, trainer=trainer)
    assert [one.bag_score for one in result.test_scores] == [one.bag_score for one in same.test_scores]
    assert (result.op_threshold, result.hard_negatives) == (same.op_threshold, same.hard_negatives)
    assert same.choice is None


def test_auto_chooses_without_an_operating_point_too(tmp_path: Path):
    cohort = make_cohort(small_bags())
    result = run_trial(_trial("auto", study=AUTO), cohort=cohort, trainer=_trainer(tmp_path, cohort))
    assert result.choice is not None
    assert np.isnan(result.op_threshold)


def test_auto_takes_its_first_candidate_where_cases_are_too_few(tmp_path: Path):
    cohort = make_cohort(small_bags())
    trainer = _trainer(tmp_path, cohort)
    few = Fold(np.arange(4), np.arange(4, 12))
    trial = replace(_trial("auto", study=AUTO), fold=few, operating=OPERATING)
    result = run_trial(trial, cohort=cohort, trainer=trainer)
    alone = run_trial(replace(_trial("ours"), fold=few), cohort=cohort, trainer=trainer)
    assert result.choice is None
    assert [one.bag_score for one in result.test_scores] == [one.bag_score for one in alone.test_scores]


def test_the_hash_of_auto_changes_with_its_candidates_and_how_they_are_compared():
    cohort = make_cohort(small_bags())
    others = [
        AutoConfig(candidates=("ours", "ours-top2", "abmil")),
        AutoConfig(candidates=("ours-top2", "ours", "abmil", "ours+fmb-oof")),
        AutoConfig(candidates=CANDIDATES, criterion="fpr"),
        AutoConfig(candidates=CANDIDATES, standard_errors=0.0),
    ]
    studies = [AUTO, *(STUDY.model_copy(update={"auto": one}) for one in others)]
    hashes = [_trial("auto", study=study).config_hash(cohort) for study in studies]
    assert len({*hashes, _trial("ours").config_hash(cohort)}) == 6


def test_the_length_of_auto_counts_candidates_that_train_the_same_once():
    found = longest_training(arm("auto", study=AUTO, kind="features"), n_operating_folds=3)
    alone = [
        longest_training(arm(name, study=AUTO, kind="features"), n_operating_folds=3)
        for name in ("ours", "abmil", "ours+fmb-oof")
    ]
    assert found == sum(alone)


def test_several_networks_are_averaged_in_scores_and_operating_point(tmp_path: Path, n_fits: list[list[str]]):
    cohort = make_cohort(small_bags())
    trainer = _trainer(tmp_path, cohort)
    one = replace(_trial("ours"), operating=OPERATING)
    run_trial(one, cohort=cohort, trainer=trainer)
    assert len(n_fits) == 3
    several = replace(_trial("ours-seeds3"), operating=OPERATING)
    result = run_trial(several, cohort=cohort, trainer=trainer)
    assert len(n_fits) == 3 + 2 * 3, "the first network of each is that of ours"
    logits: list[np.ndarray] = []
    for number in range(3):
        seed = one.seed + number * MEMBER_STEP
        said = _scores_of(one, cohort, inside=list(range(8)), seed=seed, of=[8, 9, 10, 11])
        logits.append(np.log(said) - np.log1p(-np.array(said)))
    found = np.array([score.bag_score for score in result.test_scores])
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.mean(logits, axis=0))), rtol=1e-6)
    assert several.config_hash(cohort) != one.config_hash(cohort)
    assert longest_training(several.arm) == 3 * longest_training(one.arm)


def test_each_of_several_networks_mines_for_itself(tmp_path: Path, n_fits: list[list[str]]):
    cohort = make_cohort(small_bags())
    result = run_trial(_trial("ours-seeds2+fmb"), cohort=cohort, trainer=_trainer(tmp_path, cohort))
    assert [len(slides) for slides in n_fits] == [8, 8, 8, 8]
    alone = run_trial(_trial("ours+fmb"), cohort=cohort, trainer=_trainer(tmp_path, cohort))
    assert result.hard_negatives == alone.hard_negatives
