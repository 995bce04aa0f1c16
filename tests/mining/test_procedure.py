from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.model import ModelConfig, ResolvedModelConfig, resolve_config
from hardmil.errors import ConfigError
from hardmil.mil import training
from hardmil.mil.inference import BagScore, score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import TrainingExtras
from hardmil.mining import procedure
from hardmil.mining.hard_bags import HardBags
from hardmil.mining.procedure import Mined, train_and_mine

CONFIG = resolve_config(
    ModelConfig.model_validate(
        {
            "network": {"embedding_dim": 8, "dropout": 0.1},
            "pooling": {"attention_dim": 4},
            "training": {"epochs": 6, "lr": 0.02, "precision": "float32"},
        }
    ),
    kind="features",
)
N = 5


def _bags(n: int = 12, *, slides_a_case: int = 1) -> list[Bag]:
    """Slides s0, s1, ...: odd ones positive; the cases hold one or more slides of one label."""
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        features = rng.normal(size=(N + i % 3, 4)).astype(np.float32)
        features[0, 0] += 4 * (i % 2)
        features[1, 1] += 3 * (i % 4 == 0)  # what may fool it
        coords = np.stack([np.arange(len(features)), np.full(len(features), i)], axis=1)
        case = f"c{i % 2}-{i // 2 // slides_a_case}"
        bags.append(Bag(f"s{i}", case, i % 2, features, coords, 16))
    return bags


@dataclass
class _Call:
    bags: list[Bag]
    seed: int
    extras: TrainingExtras | None
    start: BagClassifier | None
    model: BagClassifier


@dataclass
class _Train:
    """Trains nothing; records its calls."""

    calls: list[_Call] = field(default_factory=list)

    def __call__(
        self,
        bags: Sequence[Bag],
        *,
        config: ResolvedModelConfig,
        seed: int,
        extras: TrainingExtras | None = None,
        start: BagClassifier | None = None,
    ) -> BagClassifier:
        assert config == CONFIG
        model = BagClassifier(CONFIG, instance_shape=(4,)).eval()
        self.calls.append(_Call(list(bags), seed, extras, start, model))
        return model

    def extras(self, number: int) -> HardBags:
        found = self.calls[number].extras
        assert isinstance(found, HardBags)
        return found


def _score(bag: Bag, value: float, *, hard: tuple[int, ...] = (0,)) -> BagScore:
    """A score whose attention is on the instances named."""
    w = np.full(len(bag), 0.01, np.float32)
    w[list(hard)] = 1.0
    return BagScore(value, w / w.sum(), np.zeros(len(bag), np.float32))


Script = Callable[[BagClassifier, Bag], BagScore]


def _play(monkeypatch: pytest.MonkeyPatch, script: Script) -> list[tuple[BagClassifier, Bag]]:
    """Let `score_bags` say what the script says; returns who scored what."""
    scored: list[tuple[BagClassifier, Bag]] = []

    def play(model: BagClassifier, bags: Sequence[Bag]) -> list[BagScore]:
        scored.extend((model, bag) for bag in bags)
        return [script(model, bag) for bag in bags]

    monkeypatch.setattr(procedure, "score_bags", play)
    return scored


def _wrong(*slides: str, hard: tuple[int, ...] = (0,)) -> Script:
    """Positive bags 0.9, negative bags 0.1, but for these."""

    def script(model: BagClassifier, bag: Bag) -> BagScore:
        return _score(bag, 0.9 if bag.label == 1 or bag.slide_id in slides else 0.1, hard=hard)

    return script


def _run(train: _Train, *, bags: Sequence[Bag] | None = None, seed: int = 3, **settings: Any) -> Mined:
    mining = MiningConfig.model_validate({"use": "mb"} | settings)
    return train_and_mine(bags or _bags(), config=CONFIG, mining=mining, seed=seed, train=train)


def test_an_arm_that_does_not_mine_is_its_base():
    train = _Train()
    mined = _run(train, use="none", threshold="sensitivity=0.95")
    assert len(train.calls) == 1
    assert mined.model is mined.base is train.calls[0].model
    assert (mined.pool, mined.n_false_positive_bags) == ((), 0)


def test_source_train_uses_the_base_and_trains_again_with_hard_bags(monkeypatch: pytest.MonkeyPatch):
    train, bags = _Train(), _bags()
    scored = _play(monkeypatch, _wrong("s2", "s8", hard=(1, 3)))
    mined = _run(train, bags=bags)
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
    train = _Train()
    _play(monkeypatch, _wrong("s2"))
    _run(train, retrain="continue", n_bags=7)
    assert train.calls[1].start is train.calls[0].model
    assert len(train.extras(1).plan(0)) == 7


@pytest.mark.parametrize("source", ["train", "out-of-fold"])
def test_nothing_mined_leaves_the_base(source: str, monkeypatch: pytest.MonkeyPatch):
    train = _Train()
    _play(monkeypatch, _wrong())
    mined = _run(train, source=source, rounds=3)
    assert mined.model is mined.base is train.calls[0].model
    assert (mined.pool, mined.n_false_positive_bags) == ((), 0)
    assert all(call.extras is None for call in train.calls)


def test_flat_attention_mines_nothing(monkeypatch: pytest.MonkeyPatch):
    train = _Train()
    _play(monkeypatch, lambda _, bag: _score(bag, 0.9, hard=tuple(range(len(bag)))))
    mined = _run(train)
    assert (mined.model is mined.base, mined.pool) == (True, ())


def test_source_out_of_fold_does_not_use_the_base(monkeypatch: pytest.MonkeyPatch):
    train = _Train()

    def script(model: BagClassifier, bag: Bag) -> BagScore:
        is_base = model is train.calls[0].model
        return _score(bag, 0.1 if is_base and bag.label == 0 else 0.9, hard=(2,))

    scored = _play(monkeypatch, script)
    mined = _run(train, source="out-of-fold", inner_folds=3)
    assert train.calls[0].model not in [model for model, _ in scored]
    assert len(train.calls) == 1 + 3 + 1
    assert [one.key for one in mined.pool] == [(f"s{i}", 2) for i in range(0, 12, 2)]
    assert {one.source for one in mined.pool} == {"out-of-fold"}


def test_a_sensitivity_sets_the_threshold_on_out_of_fold_scores(monkeypatch: pytest.MonkeyPatch):
    train = _Train()
    # Positive bags s1 ... s11 score .01 ... .11: five of six reach .03, and so do s4 and later.
    _play(monkeypatch, lambda _, bag: _score(bag, int(bag.slide_id[1:]) / 100))
    mined = _run(train, source="out-of-fold", threshold="sensitivity=0.8")
    assert sorted({one.slide_id for one in mined.pool}) == ["s10", "s4", "s6", "s8"]
    assert mined.n_false_positive_bags == 4


def test_a_sensitivity_needs_out_of_fold_scores():
    train = _Train()
    message = (
        r"mining\.threshold: sensitivity=0\.9 is set on out-of-fold scores, .* is train; set mining\.source"
    )
    with pytest.raises(ConfigError, match=message):
        _run(train, threshold="sensitivity=0.9")
    assert train.calls == []


@pytest.mark.parametrize("use", ["sb", "mb", "fmb"])
def test_the_control_has_the_same_counts_sizes_and_steps(use: str, monkeypatch: pytest.MonkeyPatch):
    _play(monkeypatch, _wrong("s2", "s8", hard=(1, 3)))
    hard, control = _Train(), _Train()
    mined = _run(hard, use=use)
    drawn = _run(control, use=use, draw="random")
    assert len(drawn.pool) == len(mined.pool) == 4
    assert drawn.n_false_positive_bags == mined.n_false_positive_bags == 2
    assert [call.seed for call in control.calls] == [call.seed for call in hard.calls]
    sizes = [[len(bag.instances) for bag in train.extras(1).plan(0)] for train in (hard, control)]
    assert sizes[0] == sizes[1]
    assert {int(one.slide_id[1:]) % 2 for one in drawn.pool} == {0}
    assert not {one.slide_id for one in drawn.pool} <= {"s2", "s8"}
    assert {one.source for one in drawn.pool} == {"random"}
    assert _run(_Train(), use=use, draw="random").pool == drawn.pool or use == "fmb"
    assert _run(_Train(), use=use, draw="random", seed=9).pool != drawn.pool


def test_fmb_clusters_the_pool_as_the_base_sees_it(monkeypatch: pytest.MonkeyPatch):
    train, bags = _Train(), _bags(40)
    _play(monkeypatch, _wrong(*(f"s{i}" for i in range(0, 40, 2)), hard=(1, 3)))
    embedded: list[Any] = []
    plain = procedure.embed_instances

    def embed(model: BagClassifier, bag: Bag) -> np.ndarray:
        embedded.append((model, bag.instances))
        return plain(model, bag)

    monkeypatch.setattr(procedure, "embed_instances", embed)
    mined = _run(train, bags=bags, use="fmb", n_clusters=3)
    by_id = {bag.slide_id: bag for bag in bags}
    expected = [by_id[one.slide_id].instances[one.instance] for one in mined.pool]
    ((model, instances),) = embedded
    assert model is mined.base
    np.testing.assert_array_equal(instances, expected)
    assert {one.cluster for one in mined.pool} == {0, 1, 2}


def test_rounds_stop_when_nothing_new_is_found(monkeypatch: pytest.MonkeyPatch):
    train = _Train()
    _play(monkeypatch, _wrong("s2"))
    mined = _run(train, rounds=5)
    assert len(train.calls) == 2
    assert [(one.key, one.round) for one in mined.pool] == [(("s2", 0), 1)]


def test_rounds_add_to_the_pool(monkeypatch: pytest.MonkeyPatch):
    train = _Train()

    def script(model: BagClassifier, bag: Bag) -> BagScore:
        wrong = [("s2",), ("s2", "s4"), ("s2",)][len(train.calls) - 1]
        return _wrong(*wrong, hard=(len(train.calls) - 1,))(model, bag)

    scored = _play(monkeypatch, script)
    mined = _run(train, rounds=3)
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
    train = _Train()
    _play(monkeypatch, lambda _, bag: _score(bag, 0.9, hard=(len(train.calls) - 1,)))
    mined = _run(train, rounds=4, draw="random")
    keys = [one.key for one in mined.pool]
    assert len(set(keys)) == len(keys)
    assert {one.round for one in mined.pool} == {1, 2, 3, 4}


def _aucs(monkeypatch: pytest.MonkeyPatch, wrong: Sequence[int]) -> list[HardBags | None]:
    """Let each round's out-of-fold scores put so many negative bags, and no positive ones, at the top."""
    script = iter(range(len(wrong)))
    given: list[HardBags | None] = []

    def scores(bags: Sequence[Bag], *, extras: HardBags | None, **_: Any) -> list[BagScore]:
        number = next(script)
        given.append(extras)
        above = {f"s{2 * i}" for i in range(wrong[number])}
        return [
            _wrong(hard=(number,))(_none(), bag)
            if bag.slide_id not in above
            else _score(bag, 0.95, hard=(number,))
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
    train = _Train()
    given = _aucs(monkeypatch, wrong)
    mined = _run(train, source="out-of-fold", rounds=3)
    assert len(given) == n_rounds
    assert {one.round for one in mined.pool} == rounds_mined
    assert given[0] is None
    assert [len(extras.pool) for extras in given[1:] if extras] == [4, 4 + wrong[1]][: n_rounds - 1]


def test_hard_bags_of_other_cases_stay_out_of_an_inner_training(monkeypatch: pytest.MonkeyPatch):
    train, bags = _Train(), _bags(24, slides_a_case=2)
    _play(monkeypatch, lambda _, bag: _score(bag, 0.9))
    pool = _run(train, bags=bags, source="out-of-fold", inner_folds=4, rounds=2).pool
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
    return train_and_mine(_bags(24, slides_a_case=2), config=CONFIG, mining=mining, seed=1)


def test_the_whole_procedure_for_real():
    mined = _end_to_end()
    labels = {bag.slide_id: bag.label for bag in _bags(24)}
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
    before, after = (score_bags(one.model, _bags(4)) for one in (mined, again))
    assert [score.bag_score for score in before] == [score.bag_score for score in after]


def test_validation_cases_enter_no_gradient_step_through_a_hard_bag(monkeypatch: pytest.MonkeyPatch):
    bags = _bags(24)
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
