"""The procedure with the other uses of what was mined: injection, weighing, verdicts, an encoder for FMB."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.model import ModelConfig, ResolvedModelConfig, resolve_config
from hardmil.device import Device
from hardmil.errors import ConfigError
from hardmil.mil.inference import score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import TrainingExtras, fit
from hardmil.mining.injection import Distractors
from hardmil.mining.procedure import Mined, train_and_mine

CPU = Device("cpu", bfloat16=False)
CONFIG = resolve_config(
    ModelConfig.model_validate(
        {
            "network": {"embedding_dim": 8, "dropout": 0.1},
            "pooling": {"attention_dim": 4},
            "training": {"epochs": 4, "lr": 0.02},
            "instance_loss": {"beta": 0.5},
        }
    ),
    kind="features",
)


def _bags(n: int = 12, shape: tuple[int, ...] = (4,)) -> list[Bag]:
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        if len(shape) == 1:
            instances = rng.normal(size=(6, *shape)).astype(np.float32)
            instances[0, 0] += 4 * (i % 2)
        else:
            instances = rng.integers(0, 256, (6, *shape)).astype(np.uint8)
        coords = np.stack([np.arange(6), np.full(6, i)], axis=1)
        bags.append(Bag(f"s{i}", f"c{i}", i % 2, instances, coords, 1))
    return bags


class _Train:
    """Trains, and records what each training got in addition to its bags."""

    def __init__(self) -> None:
        self.extras: list[TrainingExtras | None] = []
        self.bags: list[list[Bag]] = []
        self.models: list[BagClassifier] = []

    def __call__(
        self,
        bags: Sequence[Bag],
        *,
        config: ResolvedModelConfig,
        seed: int,
        extras: TrainingExtras | None = None,
        start: BagClassifier | None = None,
    ) -> BagClassifier:
        self.extras.append(extras)
        self.bags.append(list(bags))
        self.models.append(fit(bags, config=config, seed=seed, extras=extras, start=start, device=CPU))
        return self.models[-1]


def _mine(
    train: _Train, *, bags: list[Bag] | None = None, reviewer: Any = None, seed: int = 0, **settings: Any
) -> Mined:
    mining = MiningConfig.model_validate(
        {"threshold": 0.0, "source": "out-of-fold", "inner_folds": 3, **settings}
    )
    return train_and_mine(
        bags or _bags(), config=CONFIG, mining=mining, seed=seed, train=train, reviewer=reviewer
    )


@pytest.mark.parametrize("draw", ["hard", "random"])
def test_what_was_mined_is_put_into_bags(draw: str):
    train = _Train()
    mined = _mine(train, use="inject", draw=draw, seed=5)
    *before, last = train.extras
    assert before == [None] * 4
    assert isinstance(last, Distractors)
    assert last.seed == 5
    assert [one.key for one in last.pool] == [one.key for one in mined.pool]
    _assert_trained_again(mined)


@pytest.mark.parametrize("draw", ["hard", "random"])
def test_what_was_mined_weighs_more(draw: str):
    train = _Train()
    mined = _mine(train, use="weigh", draw=draw, named_weight=3.0)
    assert train.extras == [None] * 5
    *before, last = train.bags
    assert all(bag.instance_weights is None for bags in before for bag in bags)
    heavy = [
        (bag.slide_id, int(j))
        for bag in last
        if bag.instance_weights is not None
        for j in np.flatnonzero(bag.instance_weights == 3)
    ]
    assert sorted(heavy) == sorted(one.key for one in mined.pool)
    _assert_trained_again(mined)


def _assert_trained_again(mined: Mined) -> None:
    assert all(int(one.slide_id[1:]) % 2 == 0 for one in mined.pool), "of negative bags alone"
    scores = [
        [score.bag_score for score in score_bags(model, _bags())] for model in (mined.base, mined.model)
    ]
    assert scores[0] != scores[1], "the second training is another than the first"


def test_rounds_of_injection_keep_inner_trainings_to_their_own_slides():
    train = _Train()
    _mine(train, use="inject", rounds=2)
    for bags, extras in zip(train.bags, train.extras, strict=True):
        if extras is not None:
            assert extras.cases() <= {bag.case_id for bag in bags}


def test_verdicts_come_before_mining_and_stay_in_every_training_after():
    truth = {bag.slide_id: np.array([bag.label, 0, 0, 0, 0, 0], np.float32) for bag in _bags()}
    train = _Train()
    mined = _mine(train, reviewer=truth, use="weigh", verdict_budget=2, verdict_choice="random")
    first, *after = train.bags
    assert all(bag.instance_labels is None for bag in first)
    for bags in after:
        for bag in bags:
            known = 0 if bag.instance_labels is None else int((~np.isnan(bag.instance_labels)).sum())
            assert known == (2 if bag.label == 1 else 0)
    assert mined.pool
    assert mined.base is train.models[1], "the base is the model that was trained on the verdicts"


def test_which_verdicts_are_used_depends_on_the_seed_of_the_trial():
    truth = {bag.slide_id: np.array([bag.label, 0, 0, 0, 0, 0], np.float32) for bag in _bags()}

    def used(seed: int) -> list[list[bool]]:
        train = _Train()
        _mine(train, reviewer=truth, seed=seed, use="none", verdict_budget=2, verdict_choice="random")
        labels = [bag.instance_labels for bag in train.bags[1] if bag.label == 1]
        return [np.isnan(known).tolist() for known in labels if known is not None]

    assert used(0) == used(0) != used(1)


def test_patches_are_judged_on_which_five_networks_disagree():
    truth = {bag.slide_id: np.array([bag.label, 0, 0, 0, 0, 0], np.float32) for bag in _bags()}
    train = _Train()
    _mine(train, reviewer=truth, use="none", verdict_budget=2, verdict_choice="disagreement")
    *judges, judged = train.bags
    assert len(judges) == 5
    assert all(bag.instance_labels is None for bags in judges for bag in bags)
    logits = [score_bags(model, _bags()) for model in train.models[:5]]
    for position, bag in enumerate(judged):
        if bag.label == 1:
            spread = np.std([scores[position].instance_logit for scores in logits], axis=0)
            assert bag.instance_labels is not None
            assert set(np.flatnonzero(~np.isnan(bag.instance_labels))) == set(np.argsort(-spread)[:2])
            assert spread.max() > 0


def test_without_a_budget_all_that_is_known_is_used():
    known = {"s0": np.array([0, -1, np.nan, 0, 0, 0], np.float32), "s1": np.ones(6, np.float32)}
    train = _Train()
    _mine(train, reviewer=known, use="none")
    judged = {bag.slide_id: bag for bag in train.bags[1]}
    assert len(judged["s0"]) == 5
    labels = judged["s1"].instance_labels
    assert labels is not None
    assert labels.tolist() == [1] * 6


def tints(patches: np.ndarray) -> np.ndarray:
    """Two groups: patches with more red than the middle, and the others."""
    return (patches[..., 0].mean(axis=(1, 2)) > 127.5).astype(np.float32)[:, None] * np.ones((1, 2))


def test_fmb_clusters_what_the_named_encoder_sees(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "own_encoders", sys.modules[__name__])
    bags = _bags(6, shape=(24, 24, 3))
    mining = {"use": "fmb", "n_clusters": 2, "encoder": "own_encoders:tints", "inner_folds": 2}
    mined = _mine(_Train(), bags=bags, **mining)
    by_id = {bag.slide_id: bag for bag in bags}
    red = [tints(by_id[one.slide_id].instances[[one.instance]])[0, 0] for one in mined.pool]
    assert len(set(red)) == 2, "the pool holds both"
    assert len(set(zip(red, [one.cluster for one in mined.pool], strict=True))) == 2
    with pytest.raises(ConfigError, match="encode: nothing: unknown encoder"):
        _mine(_Train(), bags=bags, **mining | {"encoder": "nothing"})


def test_fmb_clusters_features_of_an_encoder_as_they_are():
    bags = _bags()
    mined = _mine(_Train(), bags=bags, use="fmb", n_clusters=2, encoder="efficientnet-lite0")
    by_id = {bag.slide_id: bag for bag in bags}
    features = np.stack([by_id[one.slide_id].instances[one.instance] for one in mined.pool])
    clusters = np.array([one.cluster for one in mined.pool])
    centres = np.stack([features[clusters == c].mean(axis=0) for c in (0, 1)])
    distance = ((features[:, None] - centres[None]) ** 2).sum(axis=2)
    assert (distance.argmin(axis=1) == clusters).all(), "each is nearest to the centre of its own cluster"
