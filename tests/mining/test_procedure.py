from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.procedures import CONFIG, NoTraining, play, run_mining, score_on, script_bags, wrong_about

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.errors import ConfigError
from hardmil.mil import training
from hardmil.mil.bag_score import BagScore
from hardmil.mil.inference import score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mining import procedure
from hardmil.mining.procedure import Mined, train_and_mine


def test_an_arm_that_does_not_mine_is_its_base():
    train = NoTraining()
    mined = run_mining(train, use="none", threshold="sensitivity=0.95")
    assert len(train.calls) == 1
    assert mined.model is mined.base is train.calls[0].model
    assert (mined.pool, mined.n_false_positive_bags) == ((), 0)


def test_source_train_uses_the_base_and_trains_again_with_hard_bags(monkeypatch: pytest.MonkeyPatch):
    train, bags = NoTraining(), script_bags()
    scored = play(monkeypatch, wrong_about("s2", "s8", hard=(1, 3)))
    mined = run_mining(train, bags=bags)
    base, again = train.calls
    assert [(model is base.model, bag.slide_id) for model, bag in scored] == [
        (True, b.slide_id) for b in bags
    ]
    assert [one.key for one in mined.pool] == [("s2", 1), ("s2", 3), ("s8", 1), ("s8", 3)]
    assert {(one.source, one.round, one.cluster, one.bag_score) for one in mined.pool} == {
        ("train", 1, -1, 0.9)
    }
    assert mined.n_false_positive_bags == 2
    assert (mined.base, mined.model) == (base.model, again.model)
    assert base.extras is None
    assert (again.seed, again.start) == (base.seed, None) == (3, None)
    assert [bag.slide_id for bag in again.bags] == [bag.slide_id for bag in bags]
    drawn = train.extras(1).draw(0)
    assert [bag.label for bag in drawn] == [0, 0]
    assert {tuple(place) for bag in drawn for place in bag.coords.tolist()} <= {
        (1, 2),
        (3, 2),
        (1, 8),
        (3, 8),
    }


def test_retraining_may_continue_from_the_base_with_a_given_number_of_bags(monkeypatch: pytest.MonkeyPatch):
    train = NoTraining()
    play(monkeypatch, wrong_about("s2"))
    run_mining(train, retrain="continue", n_bags=7, seed=11)
    assert train.calls[1].start is train.calls[0].model
    assert train.extras(1).seed == 11
    assert len(train.extras(1).plan(0)) == 7


@pytest.mark.parametrize(("n_sigma", "mined"), [(0.9, {0, 1}), (1.0, {0}), (1.5, set[int]())])
def test_n_sigma_decides_how_much_attention_is_hard(
    n_sigma: float, mined: set[int], monkeypatch: pytest.MonkeyPatch
):
    # Of five instances: mean 0.2, std 0.21; the first is 1.45 std above the mean, the second 0.97.
    w = np.array([0.5, 0.4, 0.04, 0.03, 0.03], np.float32)
    play(monkeypatch, lambda _, bag: BagScore(0.9 * (bag.slide_id == "s0"), w, w))
    found = run_mining(NoTraining(), n_sigma=n_sigma).pool
    assert {one.instance for one in found} == mined


@pytest.mark.parametrize("source", ["train", "out-of-fold"])
def test_nothing_mined_leaves_the_base(source: str, monkeypatch: pytest.MonkeyPatch):
    train = NoTraining()
    play(monkeypatch, wrong_about())
    mined = run_mining(train, source=source, rounds=3)
    assert mined.model is mined.base is train.calls[0].model
    assert (mined.pool, mined.n_false_positive_bags) == ((), 0)
    assert all(call.extras is None for call in train.calls)


def test_flat_attention_mines_nothing(monkeypatch: pytest.MonkeyPatch):
    train = NoTraining()
    play(monkeypatch, lambda _, bag: score_on(bag, 0.9, hard=tuple(range(len(bag)))))
    mined = run_mining(train)
    assert (mined.model is mined.base, mined.pool) == (True, ())


def test_source_out_of_fold_does_not_use_the_base(monkeypatch: pytest.MonkeyPatch):
    train = NoTraining()

    def script(model: BagClassifier, bag: Bag) -> BagScore:
        is_base = model is train.calls[0].model
        return score_on(bag, 0.1 if is_base and bag.label == 0 else 0.9, hard=(2,))

    scored = play(monkeypatch, script)
    mined = run_mining(train, source="out-of-fold", inner_folds=3, seed=8)
    assert train.calls[0].model not in [model for model, _ in scored]
    assert [call.seed for call in train.calls] == [8, 9, 10, 11, 8]
    assert [one.key for one in mined.pool] == [(f"s{i}", 2) for i in range(0, 12, 2)]
    assert {one.source for one in mined.pool} == {"out-of-fold"}


def test_a_sensitivity_sets_the_threshold_on_out_of_fold_scores(monkeypatch: pytest.MonkeyPatch):
    train = NoTraining()
    # Positive bags s1 ... s11 score .01 ... .11: five of six reach .03, and so do s4 and later.
    play(monkeypatch, lambda _, bag: score_on(bag, int(bag.slide_id[1:]) / 100))
    mined = run_mining(train, source="out-of-fold", threshold="sensitivity=0.8")
    assert sorted({one.slide_id for one in mined.pool}) == ["s10", "s4", "s6", "s8"]
    assert mined.n_false_positive_bags == 4


def test_a_sensitivity_needs_out_of_fold_scores():
    train = NoTraining()
    message = (
        r"mining\.threshold: sensitivity=0\.9 is set on out-of-fold scores, .* is train; set mining\.source"
    )
    with pytest.raises(ConfigError, match=message):
        run_mining(train, threshold="sensitivity=0.9")
    assert train.calls == []


@pytest.mark.parametrize("use", ["sb", "mb", "fmb"])
def test_the_control_has_the_same_counts_sizes_and_steps(use: str, monkeypatch: pytest.MonkeyPatch):
    play(monkeypatch, wrong_about("s2", "s8", hard=(1, 3)))
    hard, control = NoTraining(), NoTraining()
    mined = run_mining(hard, use=use)
    drawn = run_mining(control, use=use, draw="random")
    assert len(drawn.pool) == len(mined.pool) == 4
    assert drawn.n_false_positive_bags == mined.n_false_positive_bags == 2
    assert [call.seed for call in control.calls] == [call.seed for call in hard.calls]
    sizes = [[len(bag.instances) for bag in train.extras(1).plan(0)] for train in (hard, control)]
    assert sizes[0] == sizes[1]
    assert {int(one.slide_id[1:]) % 2 for one in drawn.pool} == {0}
    assert not {one.slide_id for one in drawn.pool} <= {"s2", "s8"}
    assert {one.source for one in drawn.pool} == {"random"}
    assert run_mining(NoTraining(), use=use, draw="random").pool == drawn.pool or use == "fmb"
    assert run_mining(NoTraining(), use=use, draw="random", seed=9).pool != drawn.pool


def test_fmb_clusters_the_pool_as_the_base_sees_it(monkeypatch: pytest.MonkeyPatch):
    train, bags = NoTraining(), script_bags(40)
    play(monkeypatch, wrong_about(*(f"s{i}" for i in range(0, 40, 2)), hard=(1, 3)))
    embedded: list[Any] = []
    plain = procedure.embed_instances

    def embed(model: BagClassifier, bag: Bag) -> np.ndarray:
        embedded.append((model, bag.instances))
        return plain(model, bag)

    monkeypatch.setattr(procedure, "embed_instances", embed)
    mined = run_mining(train, bags=bags, use="fmb", n_clusters=3)
    by_id = {bag.slide_id: bag for bag in bags}
    expected = [by_id[one.slide_id].instances[one.instance] for one in mined.pool]
    ((model, instances),) = embedded
    assert model is mined.base
    np.testing.assert_array_equal(instances, expected)
    assert {one.cluster for one in mined.pool} == {0, 1, 2}


def test_the_seed_of_the_trial_is_that_of_k_means(monkeypatch: pytest.MonkeyPatch):
    seeds: list[int] = []

    def cluster(features: np.ndarray, *, n_clusters: int, seed: int) -> np.ndarray:
        seeds.append(seed)
        return np.arange(len(features)) % n_clusters

    monkeypatch.setattr(procedure, "cluster_instances", cluster)
    play(monkeypatch, wrong_about("s2", "s8", hard=(1, 3)))
    for seed in (3, 11):
        assert {one.cluster for one in run_mining(NoTraining(), use="fmb", n_clusters=2, seed=seed).pool} == {
            0,
            1,
        }
    assert seeds == [3, 11]


def test_hard_bags_of_other_cases_stay_out_of_an_inner_training(monkeypatch: pytest.MonkeyPatch):
    train, bags = NoTraining(), script_bags(24, slides_a_case=2)
    play(monkeypatch, lambda _, bag: score_on(bag, 0.9))
    pool = run_mining(train, bags=bags, source="out-of-fold", inner_folds=4, rounds=2).pool
    assert len(pool) == 12
    # The base, four inner trainings, the second training with hard bags, four inner ones with hard bags.
    assert len(train.calls) == 10
    assert all(call.extras is None for call in train.calls[:5])
    for number in range(6, 10):
        inside = {bag.slide_id for bag in train.calls[number].bags}
        assert len(inside) < 24
        kept = train.extras(number)
        assert {one.slide_id for one in kept.pool} == {one.slide_id for one in pool} & inside
        assert set(kept.bags) == inside


def _end_to_end(**settings: Any) -> Mined:
    mining = MiningConfig.model_validate({"use": "fmb", "source": "out-of-fold", "threshold": 0.4} | settings)
    return train_and_mine(script_bags(24, slides_a_case=2), config=CONFIG, mining=mining, seed=1)


def test_the_whole_procedure_for_real():
    mined = _end_to_end()
    labels = {bag.slide_id: bag.label for bag in script_bags(24)}
    assert len(mined.pool) > 0
    assert {labels[one.slide_id] for one in mined.pool} == {0}
    assert all(one.bag_score > 0.4 for one in mined.pool)
    assert len({one.slide_id for one in mined.pool}) <= mined.n_false_positive_bags
    assert {one.cluster for one in mined.pool} == set(range(min(4, len(mined.pool))))
    assert any(
        not torch.equal(a, b) for a, b in zip(mined.model.parameters(), mined.base.parameters(), strict=True)
    )
    again = _end_to_end()
    assert again.pool == mined.pool
    before, after = (score_bags(one.model, script_bags(4)) for one in (mined, again))
    assert [score.bag_score for score in before] == [score.bag_score for score in after]


def test_validation_cases_enter_no_gradient_step_through_a_hard_bag(monkeypatch: pytest.MonkeyPatch):
    bags = script_bags(24)
    config = CONFIG.model_copy(
        update={"training": CONFIG.training.model_copy(update={"select": "validation", "epochs": 2})}
    )
    trained, watched = set[tuple[float, ...]](), set[str]()
    plain = training.pack

    def pack(chosen: Sequence[Bag], *, device: str) -> Any:
        if torch.is_grad_enabled():
            trained.update(tuple(row) for bag in chosen for row in bag.instances.tolist())
        else:
            watched.update(bag.slide_id for bag in chosen)
        return plain(chosen, device=device)

    monkeypatch.setattr(training, "pack", pack)
    mining = MiningConfig(use="sb", threshold=0.0)
    mined = train_and_mine(bags, config=config, mining=mining, seed=1)
    held_out = {tuple(row) for bag in bags if bag.slide_id in watched for row in bag.instances.tolist()}
    assert {one.slide_id for one in mined.pool} & watched
    assert not held_out & trained
