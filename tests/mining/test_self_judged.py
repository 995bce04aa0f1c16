from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.bags.folds import inner_folds
from hardmil.config.mining import MiningConfig, SelfJudgedConfig
from hardmil.config.model import ModelConfig, resolve_config
from hardmil.mil.bag_score import BagScore
from hardmil.mil.inference import score_bags
from hardmil.mil.out_of_fold import Score
from hardmil.mil.training import fit
from hardmil.mining.procedure import train_and_mine
from hardmil.mining.self_judged import _highest, em_labels, pseudo_labels, self_judged_bags

N = 40


def _bags(n: int = 8, size: int = N) -> list[Bag]:
    rng = np.random.default_rng(1)
    bags: list[Bag] = []
    for i in range(n):
        features = rng.normal(size=(size, 3)).astype(np.float32)
        features[:4, 0] += 6 * (i % 2)
        bags.append(Bag(f"s{i}", f"c{i}", i % 2, features, np.zeros((size, 2), np.int64), 0))
    return bags


def _scores(bags: Sequence[Bag], shift: Sequence[float]) -> list[BagScore]:
    """The first feature as instance logit, shifted by bag as if each fold had a model of its own."""
    return [
        BagScore(0.5, np.full(len(bag), 1 / len(bag), np.float32), bag.instances[:, 0] + by)
        for bag, by in zip(bags, shift, strict=True)
    ]


def _shift_of_folds(bags: Sequence[Bag]) -> list[float]:
    folds = inner_folds(np.array([bag.label for bag in bags]), [b.case_id for b in bags], n_folds=2, seed=0)
    return [100.0 * next(k for k, fold in enumerate(folds) if i in fold.test) for i in range(len(bags))]


def test_pseudo_labels_are_those_of_a_plain_loop():
    bags, config = _bags(), SelfJudgedConfig(how="pseudo", lesion_share=0.05)
    scores = _scores(bags, _shift_of_folds(bags))
    found = pseudo_labels(bags, scores, config=config, n_folds=2, seed=0)
    labels = np.array([bag.label for bag in bags])
    for fold in inner_folds(labels, [bag.case_id for bag in bags], n_folds=2, seed=0):
        logits = np.concatenate([scores[i].instance_logit for i in fold.test if labels[i] == 0])
        high, low = np.quantile(logits, 0.95), np.median(logits)
        for i in fold.test:
            if labels[i] == 0:
                assert np.isnan(found[i]).all()
                continue
            own = scores[i].instance_logit
            second = np.sort(own)[-2]  # 5% of 40
            for logit, label in zip(own, found[i], strict=True):
                if logit > high or logit >= second:
                    assert label == 1
                elif logit < low:
                    assert label == 0
                else:
                    assert np.isnan(label)
            assert (found[i] == 1).sum() >= 2


def test_the_highest_instances_of_a_positive_bag_are_lesions_however_low():
    bags = _bags()
    low = [bag if bag.label == 0 else replace(bag, instances=bag.instances - 50) for bag in bags]
    found = pseudo_labels(
        low, _scores(low, [0.0] * 8), config=SelfJudgedConfig(how="pseudo"), n_folds=2, seed=0
    )
    for bag, labels in zip(low, found, strict=True):
        if bag.label == 1:
            assert np.flatnonzero(labels == 1).tolist() == [int(bag.instances[:, 0].argmax())]
            assert (labels == 0).sum() == N - 1


@pytest.mark.parametrize(("share", "n_lesions"), [(0.02, 1), (0.2, 1), (0.21, 2), (0.5, 3), (1.0, 5)])
def test_a_share_of_the_highest_is_rounded_up(share: float, n_lesions: int):
    logits = np.array([0.1, -2.0, 3.0, 0.2, 1.0])
    assert np.flatnonzero(_highest(logits, share=share)).tolist() == sorted(
        np.argsort(-logits)[:n_lesions].tolist()
    )


def test_em_labels_are_those_of_a_plain_loop():
    bags, config = _bags(), SelfJudgedConfig(how="em")
    scores = _scores(bags, [0.1 * i for i in range(8)])
    found = em_labels(bags, scores, config=config)
    everything = np.concatenate([s.instance_logit for s, bag in zip(scores, bags, strict=True) if bag.label])
    for bag, score, labels in zip(bags, scores, found, strict=True):
        if bag.label == 0:
            assert (labels == 0).all()
            continue
        threshold = min(np.quantile(score.instance_logit, 0.5), np.quantile(everything, 0.3))
        assert ((labels == 1) == (score.instance_logit >= threshold)).all()
        assert np.isnan(labels[score.instance_logit < threshold]).all()


@pytest.mark.parametrize(("how", "n_trainings"), [("pseudo", 4), ("em", 2)])
def test_each_round_learns_from_the_labels_of_the_one_before(how: Any, n_trainings: int):
    bags, seen = _bags(), list[list[Bag]]()

    def learn(inside: Sequence[Bag], seed: int) -> Score:
        seen.append(list(inside))
        return lambda others: _scores(others, [0.0] * len(others))

    found = self_judged_bags(
        bags, config=SelfJudgedConfig(how=how, rounds=2), is_random=False, n_folds=2, seed=0, learn=learn
    )
    assert len(seen) == n_trainings
    if how == "em":
        assert [set(bag.instance_labels.tolist()) for bag in seen[0] if bag.instance_labels is not None] == [
            {float(bag.label)} for bag in bags
        ]
    else:
        assert all(bag.instance_labels is None for bag in seen[0])
        judged = [bag for bag in seen[2] if bag.label == 1]
        assert judged
        assert all(bag.instance_labels is not None for bag in judged)
    assert all(np.array_equal(one.instances, bag.instances) for one, bag in zip(found, bags, strict=True))


def test_the_control_has_as_many_labels_of_each_kind_elsewhere():
    bags = _bags()

    def judged(is_random: bool) -> list[np.ndarray]:
        made = self_judged_bags(
            bags,
            config=SelfJudgedConfig(how="pseudo"),
            is_random=is_random,
            n_folds=2,
            seed=0,
            learn=lambda inside, seed: lambda others: _scores(others, [0.0] * len(others)),
        )
        return [bag.instance_labels for bag in made if bag.instance_labels is not None]

    hard, random = judged(is_random=False), judged(is_random=True)
    assert len(hard) == 4
    for one, other in zip(hard, random, strict=True):
        assert not np.array_equal(one, other, equal_nan=True)
        np.testing.assert_array_equal(np.sort(one), np.sort(other))


def test_the_labels_of_a_person_stay():
    bags = _bags()
    by_hand = np.full(N, np.nan, np.float32)
    by_hand[[0, 39]] = 0.0, 1.0
    bags[1] = replace(bags[1], instance_labels=by_hand)
    for how in ("pseudo", "em"):
        (_, found, *_) = self_judged_bags(
            bags,
            config=SelfJudgedConfig(how=how),
            is_random=False,
            n_folds=2,
            seed=0,
            learn=lambda inside, seed: lambda others: _scores(others, [0.0] * len(others)),
        )
        assert found.instance_labels is not None
        assert found.instance_labels[[0, 39]].tolist() == [0.0, 1.0]
        assert np.isfinite(found.instance_labels).sum() > 2


@pytest.mark.parametrize("how", ["pseudo", "em"])
def test_a_training_on_its_own_labels_ranks_lesions_first(how: Any):
    content: dict[str, Any] = {
        "training": {"epochs": 15, "lr": 0.01, "bag_loss": 0.0 if how == "em" else 1.0}
    }
    if how == "em":
        content["pooling"] = {"kind": "mean", "score": "top"}
    config = resolve_config(ModelConfig.model_validate(content), kind="features")
    mining = MiningConfig(self_judged=SelfJudgedConfig(how=how, rounds=2), inner_folds=2)
    bags, calls = _bags(16), list[int]()

    def counted(bags: Sequence[Bag], **rest: Any) -> Any:
        calls.append(sum(bag.instance_labels is not None for bag in bags))
        return fit(bags, **rest)

    mined = train_and_mine(bags, config=config, mining=mining, train=counted)
    assert calls == ([16, 16, 16] if how == "em" else [0, 0, 4, 4, 8])
    assert mined.pool == ()
    for score, bag in zip(score_bags(mined.model, bags), bags, strict=True):
        if bag.label == 1:
            assert score.instance_logit[:4].min() > np.median(score.instance_logit[4:])
