"""The procedure over several rounds: what each adds, and when they stop."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.support.procedures import CONFIG, NoTraining, play, run_mining, score_on, script_bags, wrong_about

from hardmil.bags.bag import Bag
from hardmil.mil.bag_score import BagScore
from hardmil.mil.network import BagClassifier
from hardmil.mining import procedure
from hardmil.mining.hard_bags import HardBags
from hardmil.mining.hard_instances import random_instances


def test_rounds_stop_when_nothing_new_is_found(monkeypatch: pytest.MonkeyPatch):
    train = NoTraining()
    play(monkeypatch, wrong_about("s2"))
    mined = run_mining(train, rounds=5)
    assert len(train.calls) == 2
    assert [(one.key, one.round) for one in mined.pool] == [(("s2", 0), 1)]


def test_rounds_add_to_the_pool(monkeypatch: pytest.MonkeyPatch):
    train = NoTraining()

    def script(model: BagClassifier, bag: Bag) -> BagScore:
        wrong = [("s2",), ("s2", "s4"), ("s2",)][len(train.calls) - 1]
        return wrong_about(*wrong, hard=(len(train.calls) - 1,))(model, bag)

    scored = play(monkeypatch, script)
    mined = run_mining(train, rounds=3)
    keys = [(one.slide_id, one.instance, one.round) for one in mined.pool]
    assert keys == [("s2", 0, 1), ("s2", 1, 2), ("s4", 1, 2), ("s2", 2, 3)]
    assert mined.n_false_positive_bags == 1 + 2 + 1
    assert [len(train.extras(i).pool) for i in (1, 2, 3)] == [1, 3, 4]
    assert [len(train.extras(i).plan(0)) for i in (1, 2, 3)] == [1, 3, 4]
    # each round uses the model of the round before
    models = list(dict.fromkeys(id(model) for model, _ in scored))
    assert models == [id(call.model) for call in train.calls[:3]]
    assert mined.model is train.calls[3].model


def test_rounds_of_the_control_never_draw_an_instance_twice(monkeypatch: pytest.MonkeyPatch):
    train = NoTraining()
    play(monkeypatch, lambda _, bag: score_on(bag, 0.9, hard=(len(train.calls) - 1,)))
    mined = run_mining(train, rounds=4, draw="random")
    keys = [one.key for one in mined.pool]
    assert len(set(keys)) == len(keys)
    assert {one.round for one in mined.pool} == {1, 2, 3, 4}


def test_each_round_of_the_control_has_its_own_seed(monkeypatch: pytest.MonkeyPatch):
    train, bags = NoTraining(), script_bags(40)
    play(monkeypatch, lambda _, bag: score_on(bag, 0.9, hard=(len(train.calls) - 1,)))
    mined = run_mining(train, bags=bags, rounds=3, draw="random")
    scores, known = [score_on(bag, 0.9) for bag in bags], list[tuple[str, int]]()
    for number in (1, 2, 3):
        n = sum(one.round == number for one in mined.pool)
        drawn = random_instances(bags, scores=scores, n=n, number=number, seed=3 + number, known=known)
        known += [one.key for one in drawn]
    assert [one.key for one in mined.pool] == known


def _aucs(monkeypatch: pytest.MonkeyPatch, wrong: Sequence[int]) -> list[HardBags | None]:
    """Let each round's out-of-fold scores put so many negative bags, and no positive ones, at the top."""
    script = iter(range(len(wrong)))
    given: list[HardBags | None] = []

    def scores(bags: Sequence[Bag], *, extras: HardBags | None, **_: Any) -> list[BagScore]:
        number = next(script)
        given.append(extras)
        above = {f"s{2 * i}" for i in range(wrong[number])}
        return [
            wrong_about(hard=(number,))(_none(), bag)
            if bag.slide_id not in above
            else score_on(bag, 0.95, hard=(number,))
            for bag in bags
        ]

    monkeypatch.setattr(procedure, "_scores", scores)
    return given


def _none() -> BagClassifier:
    return BagClassifier(CONFIG, instance_shape=(4,))


@pytest.mark.parametrize(
    ("wrong", "n_rounds", "rounds_mined"),
    [([4, 3, 2], 3, {1, 2, 3}), ([4, 4, 1], 2, {1}), ([4, 5, 1], 2, {1}), ([4, 2, 3], 3, {1, 2})],
)
def test_rounds_stop_when_out_of_fold_scores_stop_gaining(
    wrong: list[int], n_rounds: int, rounds_mined: set[int], monkeypatch: pytest.MonkeyPatch
):
    train = NoTraining()
    given = _aucs(monkeypatch, wrong)
    mined = run_mining(train, source="out-of-fold", rounds=3)
    assert len(given) == n_rounds
    assert {one.round for one in mined.pool} == rounds_mined
    assert given[0] is None
    assert [len(extras.pool) for extras in given[1:] if extras] == [4, 4 + wrong[1]][: n_rounds - 1]
