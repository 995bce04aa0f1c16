from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hardmil.bags.bag import Bag
from hardmil.bags.folds import Fold
from hardmil.config import ModelConfig, StudyConfig, model_config
from hardmil.errors import BundleError
from hardmil.metrics import binary_metrics
from hardmil.mil.inference import score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import Device, fit
from hardmil.mining.hard_bags import HardBags
from hardmil.mining.hard_instances import HardInstance
from hardmil.study import trial as trial_module
from hardmil.study.arms import arm
from hardmil.study.trial import (
    Cohort,
    Trainer,
    Trial,
    longest_training,
    make_cohort,
    run_trial,
    weights_digest,
)

CPU = Device("cpu", bfloat16=False)
STUDY = StudyConfig.model_validate(
    {
        "network": {"embedding_dim": 4, "dropout": 0.1},
        "pooling": {"attention_dim": 3},
        "training": {"epochs": 2, "lr": 0.02},
        "mining": {"threshold": 0.0, "n_clusters": 2, "inner_folds": 2},
    }
)


def _bags(n: int = 12) -> list[Bag]:
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        features = rng.normal(size=(5, 3)).astype(np.float32)
        features[0, 0] += 4 * (i % 2)
        bags.append(Bag(f"s{i}", f"c{i}", i % 2, features, rng.integers(0, 99, (5, 2)), 16))
    return bags


def _trial(name: str = "ours+fmb", *, study: StudyConfig = STUDY, seed: int = 3) -> Trial:
    fold = Fold(train=np.arange(8), test=np.arange(8, 12))
    return Trial(arm(name, study=study), repeat=0, fold_number=1, fold=fold, seed=seed)


def _trainer(folder: Path | None, cohort: Cohort) -> Trainer:
    return Trainer(folder, cohort.digest, CPU)


@pytest.fixture
def n_fits(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The slides of each training that is really run."""
    calls: list[list[str]] = []

    def counted(bags: Any, **rest: Any) -> BagClassifier:
        calls.append([bag.slide_id for bag in bags])
        return fit(bags, **rest)

    monkeypatch.setattr(trial_module, "fit", counted)
    return calls


def _changed(bag: Bag, **changes: Any) -> list[Bag]:
    return [replace(bag, **changes), *_bags()[1:]]


def test_the_digest_changes_with_anything_in_the_bags():
    first = _bags()[0]
    features, coords = first.instances.copy(), first.coords.copy()
    features[4, 2] += 1
    coords[0, 1] += 1
    cohorts = [
        _bags(),
        _bags()[::-1],
        _bags()[1:],
        _changed(first, slide_id="t0"),
        _changed(first, case_id="d0"),
        _changed(first, label=1),
        _changed(first, instances=features),
        _changed(first, coords=coords),
    ]
    digests = [make_cohort(bags).digest for bags in cohorts]
    assert len(set(digests)) == len(cohorts)
    assert make_cohort(_bags()).digest == digests[0]


def test_a_cohort_knows_labels_and_cases():
    cohort = make_cohort(_bags(3))
    assert cohort.labels.tolist() == [0, 1, 0]
    assert cohort.cases == ["c0", "c1", "c2"]


def test_the_hash_changes_with_anything_the_numbers_depend_on():
    cohort, first = make_cohort(_bags()), _trial()
    study = STUDY.model_copy(update={"mining": STUDY.mining.model_copy(update={"n_clusters": 3})})
    longer = STUDY.model_copy(update={"training": STUDY.training.model_copy(update={"epochs": 3})})
    other_fold = replace(first, fold=Fold(np.arange(9), np.arange(9, 12)))
    hashes = [
        first.config_hash(cohort),
        first.config_hash(make_cohort(_bags()[::-1])),
        _trial(seed=4).config_hash(cohort),
        _trial("ours+mb").config_hash(cohort),
        _trial("ours+fmb@random").config_hash(cohort),
        _trial("abmil+fmb").config_hash(cohort),
        _trial(study=study).config_hash(cohort),
        _trial(study=longer).config_hash(cohort),
        other_fold.config_hash(cohort),
    ]
    assert len(set(hashes)) == len(hashes)
    assert _trial().config_hash(cohort) == hashes[0]


def test_the_hash_of_an_arm_that_does_not_mine_does_not_mind_the_mining_knobs():
    cohort = make_cohort(_bags())
    study = STUDY.model_copy(update={"mining": STUDY.mining.model_copy(update={"n_clusters": 3})})
    assert _trial("ours").config_hash(cohort) == _trial("ours", study=study).config_hash(cohort)


def test_a_training_is_remembered(tmp_path: Path, n_fits: list[list[str]]):
    bags, config = _bags(), model_config(STUDY)
    cohort = make_cohort(bags)
    trainer = _trainer(tmp_path, cohort)
    first = trainer.train(bags, config=config, seed=1)
    again = trainer.train(bags, config=config, seed=1)
    assert len(n_fits) == 1
    expected = fit(bags, config=config, seed=1, device=CPU)
    for model in (first, again):
        assert weights_digest(model) == weights_digest(expected)
        scores = [score.bag_score for score in score_bags(model, bags)]
        assert scores == [score.bag_score for score in score_bags(expected, bags)]


def test_a_training_from_anything_else_is_another(tmp_path: Path, n_fits: list[list[str]]):
    bags, config = _bags(), model_config(STUDY)
    trainer = _trainer(tmp_path, make_cohort(bags))
    base = trainer.train(bags, config=config, seed=1)
    pool = [HardInstance(1, "s0", "c0", 2, 0, 0, 16, 0.5, 0.9, 0, "train")]
    mining = STUDY.mining.model_copy(update={"use": "sb"})
    hard = HardBags(pool, {bag.slide_id: bag for bag in bags}, 1, mining, 1)
    longer = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 3})})
    trainer.train(bags, config=config, seed=2)
    trainer.train(bags[:-1], config=config, seed=1)
    trainer.train(bags, config=longer, seed=1)
    trainer.train(bags, config=config, seed=1, extra=hard)
    trainer.train(bags, config=config, seed=1, start=base)
    replace(trainer, cohort_digest="other").train(bags, config=config, seed=1)
    replace(trainer, device=Device("cpu", bfloat16=True)).train(bags, config=config, seed=1)
    assert len(n_fits) == 8
    assert len(list(tmp_path.glob("*/model.safetensors"))) == 8


def test_a_trainer_without_a_folder_trains_each_time(n_fits: list[list[str]]):
    trainer = _trainer(None, make_cohort(_bags()))
    for _ in range(2):
        trainer.train(_bags(), config=ModelConfig(training=STUDY.training), seed=1)
    assert len(n_fits) == 2


def test_a_damaged_training_is_named(tmp_path: Path):
    trainer = _trainer(tmp_path, make_cohort(_bags()))
    trainer.train(_bags(), config=model_config(STUDY), seed=1)
    (path,) = tmp_path.glob("*/model.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BundleError, match=rf"{path.parent.name}/model\.safetensors: not the weights"):
        trainer.train(_bags(), config=model_config(STUDY), seed=1)


def test_weights_digest_changes_with_a_weight():
    model = BagClassifier(
        ModelConfig.model_validate({"network": {"embedding_dim": 2, "dropout": 0.0}}), instance_shape=(3,)
    )
    before = weights_digest(model)
    assert weights_digest(model) == before
    with torch.no_grad():
        model.classify.bias.add_(1e-6)
    assert weights_digest(model) != before


def test_a_trial_trains_on_its_training_fold_and_scores_its_test_fold(
    tmp_path: Path, n_fits: list[list[str]]
):
    cohort = make_cohort(_bags())
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
    cohort = make_cohort(_bags())
    trainer = _trainer(tmp_path, cohort)
    run_trial(_trial("ours"), cohort=cohort, trainer=trainer)
    assert len(n_fits) == 1
    run_trial(_trial(name), cohort=cohort, trainer=trainer)
    assert len(n_fits) == 2


def test_a_progress_bar_is_as_long_as_the_longest_training():
    lengths = {
        name: longest_training(arm(name, study=STUDY), kind="features")
        for name in ("ours", "ours+fmb", "ours+fmb-oof", "ours+fmb-oof-rounds")
    }
    assert lengths == {"ours": 2, "ours+fmb": 4, "ours+fmb-oof": 8, "ours+fmb-oof-rounds": 20}
    assert longest_training(arm("ours", study=StudyConfig()), kind="pixels") == 120
