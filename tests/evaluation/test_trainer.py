from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.trainings import small_bags

from hardmil.bags.bag import Bag
from hardmil.config.evaluation import FisherConfig
from hardmil.config.model import ResolvedModelConfig, resolve_config
from hardmil.config.study import StudyConfig, model_config
from hardmil.device import Device
from hardmil.evaluation.cohort import make_cohort
from hardmil.evaluation.trainer import Trainer
from hardmil.mil import fisher
from hardmil.mil.inference import score_bags
from hardmil.mil.logit_pooling import TopKPooling
from hardmil.mil.training import fit
from hardmil.mil.weights import weights_digest
from hardmil.mining.hard_bags import HardBags
from hardmil.mining.hard_instances import HardInstance

CPU = Device("cpu", bfloat16=False)
STUDY = StudyConfig.model_validate(
    {
        "network": {"embedding_dim": 4, "dropout": 0.1},
        "pooling": {"attention_dim": 3},
        "training": {"epochs": 2, "lr": 0.02},
    }
)


CONFIG = resolve_config(model_config(STUDY), kind="features")


def _trainer(folder: Path) -> Trainer:
    return Trainer(folder, make_cohort(small_bags()).digest, CPU)


def test_a_training_is_remembered(tmp_path: Path, n_fits: list[list[str]]):
    bags, config = small_bags(), CONFIG
    trainer = _trainer(tmp_path)
    first = trainer.train(bags, config=config, seed=1)
    again = trainer.train(bags, config=config, seed=1)
    assert len(n_fits) == 1
    expected = fit(bags, config=config, seed=1, device=CPU)
    for model in (first, again):
        assert weights_digest(model) == weights_digest(expected)
        scores = [score.bag_score for score in score_bags(model, bags)]
        assert scores == [score.bag_score for score in score_bags(expected, bags)]


def test_a_training_from_anything_else_is_another(tmp_path: Path, n_fits: list[list[str]]):
    bags, config = small_bags(), CONFIG
    trainer = _trainer(tmp_path)
    base = trainer.train(bags, config=config, seed=1)
    pool = [HardInstance(1, "s0", "c0", 2, 0, 0, 16, 0.5, 0.9, 0, "train")]
    mining = STUDY.mining.model_copy(update={"use": "sb"})
    hard = HardBags(pool, {bag.slide_id: bag for bag in bags}, 1, mining, 1)
    longer = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 3})})
    trainer.train(bags, config=config, seed=2)
    trainer.train(bags[:-1], config=config, seed=1)
    trainer.train(bags, config=longer, seed=1)
    trainer.train(bags, config=config, seed=1, extras=hard)
    trainer.train(bags, config=config, seed=1, start=base)
    replace(trainer, cohort_digest="other").train(bags, config=config, seed=1)
    replace(trainer, device=Device("cpu", bfloat16=True)).train(bags, config=config, seed=1)
    assert len(n_fits) == 8
    assert len(list(tmp_path.glob("*/model.safetensors"))) == 8


def test_networks_that_score_differently_are_trained_once(tmp_path: Path, n_fits: list[list[str]]):
    bags, trainer = small_bags(), _trainer(tmp_path)
    pooling = CONFIG.pooling.model_copy(update={"score": "top", "top_k": 2})
    other = CONFIG.model_copy(update={"pooling": pooling})
    for config in (CONFIG, other, CONFIG):
        assert trainer.train(bags, config=config, seed=1).config == config
    assert len(n_fits) == 1


def test_networks_trained_by_other_numbers_of_instances_are_others(tmp_path: Path, n_fits: list[list[str]]):
    bags, trainer = small_bags(), _trainer(tmp_path)

    def config(**pooling: object) -> ResolvedModelConfig:
        changed = CONFIG.pooling.model_copy(update={"kind": "topk", **pooling})
        return CONFIG.model_copy(update={"pooling": changed})

    for top_k in (1, 4):
        network = trainer.train(bags, config=config(top_k=top_k), seed=1)
        assert isinstance(network.pool_logits, TopKPooling)
        assert network.pool_logits.k == top_k
    assert len(n_fits) == 2
    trainer.train(bags, config=config(top_k=4, score="mean"), seed=1)
    assert len(n_fits) == 2


@pytest.mark.parametrize("flip", [False, True])
def test_a_damaged_network_is_trained_again(tmp_path: Path, n_fits: list[list[str]], flip: bool):
    trainer = _trainer(tmp_path)
    first = trainer.train(small_bags(), config=CONFIG, seed=1)
    (path,) = tmp_path.glob("*/model.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if flip else whole[:100])
    again = trainer.train(small_bags(), config=CONFIG, seed=1)
    assert len(n_fits) == 2
    assert weights_digest(again) == weights_digest(first)
    trainer.train(small_bags(), config=CONFIG, seed=1)
    assert len(n_fits) == 2


def test_a_training_on_judged_bags_is_another(tmp_path: Path, n_fits: list[list[str]]):
    bags, trainer = small_bags(), _trainer(tmp_path)
    for label in (0.0, 1.0):
        labels = np.array([label, *[np.nan] * 4], np.float32)
        trainer.train([replace(bags[0], instance_labels=labels), *bags[1:]], config=CONFIG, seed=1)
    trainer.train(bags, config=CONFIG, seed=1)
    assert len(n_fits) == 3


def test_descriptors_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []

    def counted(bag: Bag, *, config: FisherConfig) -> np.ndarray:
        calls.append(bag.slide_id)
        return bag.instances

    monkeypatch.setattr(fisher, "describe", counted)
    describe: Callable[..., np.ndarray] = _trainer(tmp_path).describe
    for bag in small_bags(2) * 2:
        np.testing.assert_array_equal(describe(bag, config=FisherConfig()), bag.instances)
    assert calls == ["s0", "s1"]
    describe(small_bags(1)[0], config=FisherConfig(step=0.5))
    assert calls == ["s0", "s1", "s0"]
