from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.evaluations import CPU, STUDY, make_evaluation

from hardmil.bags.bag import Bag
from hardmil.evaluation import trainer as trainer_module
from hardmil.evaluation.evaluation import Evaluation, evaluate_arms
from hardmil.evaluation.trial import OperatingSettings
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import fit
from hardmil.paper import cost as cost_module
from hardmil.paper.cost import cost_lines, cost_of, duration, in_words, training_speed, training_visits

EPOCHS = 2
OPERATING = OperatingSettings("sensitivity=0.9", 2)


def _bags(n: int = 24) -> list[Bag]:
    """Bags of 3 to 7 instances, one slide a case, odd ones positive."""
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        features = rng.normal(size=(3 + i % 5, 3)).astype(np.float32)
        features[0, 0] += 4 * (i % 2)
        bags.append(Bag(f"s{i}", f"c{i}", i % 2, features, rng.integers(0, 99, (len(features), 2)), 16))
    return bags


def _evaluation(folder: Path, *arms: str, mining: dict[str, Any] | None = None, **rest: Any) -> Evaluation:
    study = {"mining": STUDY["mining"] | (mining or {})}
    return make_evaluation(folder, arms=arms, bags=_bags(), study=study, only_folds=(0,), **rest)


def _visits(evaluation: Evaluation) -> int:
    return training_visits(evaluation.trials(), cohort=evaluation.cohort)


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The patch visits of each training that is really run."""
    visits: list[int] = []

    def counted(bags: Sequence[Bag], *, config: Any, extras: Any, **rest: Any) -> BagClassifier:
        n = 0
        for epoch in range(config.training.epochs):
            joined = [*bags, *(extras.draw(epoch) if extras else [])]
            n += sum(len(extras.mix(bag, epoch=epoch) if extras else bag) for bag in joined)
        visits.append(n)
        return fit(bags, config=config, extras=extras, **rest)

    monkeypatch.setattr(trainer_module, "fit", counted)
    return visits


def test_by_hand(tmp_path: Path):
    evaluation = _evaluation(tmp_path, "ours")
    sizes = np.array([3 + i % 5 for i in range(24)])
    train = evaluation.folds[0][0].train
    assert _visits(evaluation) == EPOCHS * sizes[train].sum()
    longer = _evaluation(tmp_path, "ours")
    longer = replace(longer, only_folds=None)
    # Of three folds, each bag is in the training of two.
    assert _visits(longer) == EPOCHS * 2 * sizes.sum()
    # The base once, and the second training of each arm: a weighed bag is as large as before.
    assert _visits(_evaluation(tmp_path, "ours+instance", "ours+weigh")) == EPOCHS * 2 * sizes[train].sum()


def test_a_step_uses_no_more_of_a_bag_than_the_setting_allows(tmp_path: Path):
    evaluation = make_evaluation(
        tmp_path,
        arms=("ours",),
        bags=_bags(),
        study={"training": {"epochs": EPOCHS, "max_instances": 4}},
        only_folds=(0,),
    )
    train = evaluation.folds[0][0].train
    assert _visits(evaluation) == EPOCHS * sum(min(3 + i % 5, 4) for i in train)


@pytest.mark.parametrize("operating", [None, OPERATING, OperatingSettings("youden", 3)])
@pytest.mark.parametrize(
    "arms",
    [
        ("ours", "abmil", "ours+instance"),
        ("ours", "ours+weigh", "ours+weigh@random"),
        ("ours+weigh-oof", "ours+weigh-oof@random", "ours+instance"),
        ("ours+pseudo", "ours+pseudo@random", "ours-top2"),
        ("ours-seeds3", "ours"),
    ],
    ids="-".join,
)
def test_the_count_is_what_trainings_visit_if_mining_adds_nothing(
    arms: tuple[str, ...], operating: OperatingSettings | None, tmp_path: Path, spent: list[int]
):
    """The threshold of mining is 0: every negative bag is a false positive."""
    evaluation = _evaluation(tmp_path, *arms, operating=operating)
    expected = _visits(evaluation)
    assert evaluate_arms(evaluation, device=CPU, quiet=True) == []
    assert sum(spent) == expected


@pytest.mark.parametrize(
    ("arm", "mining"),
    [
        ("ours+sb", {}),
        ("ours+mb", {}),
        ("ours+mb", {"n_bags": 3}),
        ("ours+fmb-oof", {}),
        ("ours+fmb-oof-rounds", {}),
        ("ours+mb-rounds", {"n_bags": 3}),
        ("ours+inject-oof", {}),
        ("ours+inject-positive", {}),
        ("ours+inject-replace", {}),
        ("em", {}),
        ("ours+pseudo-rounds", {}),
        ("ours+pseudo+weigh", {}),
    ],
)
def test_the_count_is_a_bound_of_what_mining_adds(
    arm: str, mining: dict[str, Any], tmp_path: Path, spent: list[int]
):
    evaluation = _evaluation(tmp_path, arm, operating=OPERATING, mining=mining)
    bound = _visits(evaluation)
    assert evaluate_arms(evaluation, device=CPU, quiet=True) == []
    assert bound / 4 < sum(spent) <= bound  # rounds may stop early


def test_verdicts_train_the_base_again(tmp_path: Path, spent: list[int]):
    evaluation = _evaluation(tmp_path, "ours", "ours+verdicts-2-random")
    base = _visits(_evaluation(tmp_path, "ours"))
    assert _visits(evaluation) == 2 * base
    assert _visits(_evaluation(tmp_path, "ours+verdicts", "ours+verdicts-2")) == 3 * base
    assert _visits(_evaluation(tmp_path, "ours+verdicts-2-disagreement")) == 6 * base, "five networks choose"


def test_an_arm_without_a_network_visits_nothing(tmp_path: Path):
    evaluation = _evaluation(tmp_path, "sdr-svm")
    assert _visits(evaluation) == 0
    assert cost_lines(evaluation, device=CPU, engine=LOCAL) == []


def test_only_trials_without_a_row_cost_something(tmp_path: Path):
    evaluation = replace(_evaluation(tmp_path, "ours"), only_folds=None)
    before = cost_of(evaluation)
    assert evaluate_arms(replace(evaluation, only_folds=(0,)), device=CPU, quiet=True) == []
    after = cost_of(evaluation)
    assert (len(before.missing), len(after.missing), after.n_trials) == (3, 2, 3)
    done = _visits(replace(evaluation, only_folds=(0,)))
    assert after.visits == before.visits - done
    assert evaluate_arms(evaluation, device=CPU, quiet=True) == []
    assert cost_lines(evaluation, device=CPU, engine=LOCAL) == []


def test_the_cost_in_words(tmp_path: Path):
    evaluation = replace(_evaluation(tmp_path, "ours", "ours+mb"), only_folds=None)
    cost = cost_of(evaluation)
    cost = replace(cost, missing=cost.missing[1:], visits=1_240_000_000, small_visits=1_240_000)
    first, second = in_words(cost, evaluation=evaluation, speed=4000.0, workers=2)
    assert first == (
        "2 arms x 1 repeats x 3 folds, 5 of 6 trials to run: at most 1,240 million patch visits, "
        "about 43 hours at 4,000 per second with 2 workers"
    )
    assert second == "a smaller run: --repeats 1 --folds 2 --epochs 3 takes about 3 minutes"
    exact = replace(cost, is_bound=False, visits=8_000, small_visits=5_000)
    assert in_words(exact, evaluation=replace(evaluation, only_folds=(1,)), speed=4000.0, workers=1) == [
        "2 arms x 1 repeats x 1 folds, 5 of 6 trials to run: 8,000 patch visits, about 2 seconds at 4,000 "
        "per second"
    ]
    assert [duration(s) for s in (0.2, 90.0, 121.0, 7300.0, 200_000.0)] == [
        "1 second", "90 seconds", "2 minutes", "2 hours", "2 days"
    ]  # fmt: skip


def test_the_speed_is_measured_by_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A clock that a training of n patch visits moves by n / 100 seconds."""
    now, threads = 0.0, list[int]()

    def trained(bags: Sequence[Bag], *, config: Any, device: Any) -> None:
        nonlocal now
        threads.append(cost_module.torch.get_num_threads())
        now += config.training.epochs * sum(len(bag) for bag in bags) / 100

    monkeypatch.setattr(cost_module, "fit", trained)
    monkeypatch.setattr(cost_module.time, "perf_counter", lambda: now)
    model = _evaluation(tmp_path, "ours").arms[0].model
    before = cost_module.torch.get_num_threads()
    for at_least_s in (0.01, 1.0, 60.0):
        speed = training_speed(_bags(), config=model, device=CPU, threads=1, at_least_s=at_least_s)
        assert speed == pytest.approx(100)
    assert set(threads) == {1}
    assert cost_module.torch.get_num_threads() == before


def test_a_training_that_diverges_is_left_to_the_trials(tmp_path: Path):
    evaluation = make_evaluation(tmp_path, arms=("ours",), study={"training": {"lr": 1e30, "epochs": 9}})
    assert cost_lines(evaluation, device=CPU, engine=LOCAL) == []


def test_the_lines_of_a_real_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cost_module, "MEASURE_S", 0.01)
    evaluation = _evaluation(tmp_path, "ours", "ours+fmb-oof")
    for engine, end in ((LOCAL, "per second"), (Engine(workers=2), "with 2 workers")):
        (line,) = cost_lines(evaluation, device=CPU, engine=engine)
        assert line.startswith("2 arms x 1 repeats x 1 folds, 2 of 2 trials to run: at most ")
        assert line.endswith(end)


def test_auto_trains_every_candidate_out_of_fold_and_one_of_them_on_the_whole(
    tmp_path: Path, spent: list[int]
):
    study = {"auto": {"candidates": ["ours", "ours-top2", "abmil"]}, "training": {"epochs": EPOCHS}}
    evaluation = make_evaluation(
        tmp_path, arms=("auto",), bags=_bags(), study=study, only_folds=(0,), operating=OPERATING
    )
    bound = _visits(evaluation)
    assert evaluate_arms(evaluation, device=CPU, quiet=True) == []
    # All inner models of both networks, and one of the two networks on the whole training fold.
    assert sum(spent) == bound
