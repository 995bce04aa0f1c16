"""A classifier by the name of an arm."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone

from hardmil import MILClassifier
from hardmil.errors import ConfigError
from hardmil.estimator import arm_training
from hardmil.mil.calibration import Calibration

SETTINGS: dict[str, Any] = {"bags_per_step": 4, "device": "cpu"}
QUICK: dict[str, Any] = SETTINGS | {"epochs": 4, "lr": 1e-2}


def _bags(
    n: int = 24, *, labels: tuple[str, ...] = ("normal", "tumour")
) -> tuple[list[np.ndarray], list[str]]:
    """One instance of a bag tells its label, on the axis of that label."""
    rng = np.random.default_rng(0)
    names = [labels[i % len(labels)] for i in range(n)]
    bags = [rng.normal(size=(int(rng.integers(4, 7)), 4)).astype(np.float32) for _ in names]
    for bag, name in zip(bags, names, strict=True):
        bag[0, labels.index(name)] += 6 * (name != labels[0])
    return bags, names


def _calibration(model: MILClassifier) -> Calibration:
    found = model._card.calibration
    assert found is not None
    return found


def test_an_arm_sets_the_pooling_the_score_and_the_losses():
    bags, labels = _bags()
    model = MILClassifier(arm="abmil-top3+instance", **QUICK).fit(bags, labels)
    config = model.network_.config
    assert (config.pooling.kind, config.pooling.score, config.pooling.top_k) == ("attention", "top", 3)
    assert config.instance_loss.beta == 0.5
    assert (model.arm_, model.choices_) == ("abmil-top3+instance", ())


def test_without_an_arm_the_parameters_decide_and_nothing_is_held_out():
    bags, labels = _bags()
    model = MILClassifier("attention", "sb", **QUICK).fit(bags, labels)
    assert (model.arm_, model.threshold_) == ("abmil+sb", 0.5)
    assert model._card.calibration is None


def test_probabilities_are_calibrated_out_of_fold_and_agree_with_predict():
    bags, labels = _bags()
    model = MILClassifier(arm="ours-top2", **QUICK).fit(bags, labels)
    calibration = _calibration(model)
    assert calibration.shift != 0, "a mean of instance logits has no even odds at 0.5"
    assert model.threshold_ == pytest.approx(float(expit(calibration.shift)))
    probability = model.predict_proba(bags)[:, 1]
    np.testing.assert_array_equal(model.predict(bags) == "tumour", probability > 0.5)


def test_auto_chooses_what_was_left_open_then_an_arm():
    bags, labels = _bags()
    model = MILClassifier(arm="auto", inner_folds=2, epochs=3, **SETTINGS).fit(bags, labels)
    of_settings, of_arms = model.choices_
    assert [one.name for one in of_settings.candidates] == [
        "ours clip=3",
        "ours clip=5",
        "ours",
        "ours clip=3 lr=0.001",
        "ours clip=5 embedding_dim=512",
    ]
    assert of_arms.chosen == model.arm_
    assert [one.name for one in of_arms.candidates][:2] == ["ours", "ours-top5"]
    best = max(of_settings.candidates, key=lambda one: one.value)
    assert of_settings.chosen == best.name
    config = model.network_.config
    found = {
        "lr": config.training.lr,
        "clip": config.network.clip,
        "embedding_dim": config.network.embedding_dim,
    }
    words = dict(word.split("=") for word in of_settings.chosen.split()[1:])
    default = {"lr": 3e-4, "clip": None, "embedding_dim": 128}
    assert found == default | {name: float(value) for name, value in words.items()}
    assert config.training.epochs == 3


def test_auto_takes_the_settings_with_the_best_scores_out_of_fold(monkeypatch: pytest.MonkeyPatch):
    """With a learning rate of almost nothing, the network learns nothing."""
    settings = ({"training": {"lr": 1e-9}}, {"training": {"lr": 1e-2}})
    monkeypatch.setattr(arm_training, "SETTINGS", {"features": settings})
    bags, labels = _bags()
    model = MILClassifier(arm="auto", inner_folds=2, epochs=5, embedding_dim=16, **SETTINGS).fit(bags, labels)
    assert model.network_.config.training.lr == 1e-2
    assert model.choices_[0].chosen == "ours lr=0.01"
    assert (model.predict(bags) == labels).mean() >= 0.9


def test_auto_tries_other_settings_with_pixels():
    """Nothing is cut off there, and a training is longer."""
    rng = np.random.default_rng(0)
    labels = np.arange(8) % 2
    bags = [rng.integers(0, 100 + 100 * label, (3, 24, 24, 3), np.uint8) for label in labels]
    open_ones = {"epochs": 1, "lr": 1e-3}
    model = MILClassifier(arm="auto", inner_folds=2, **SETTINGS | open_ones).fit(bags, labels)
    assert [one.name for one in model.choices_[0].candidates] == ["ours", "ours embedding_dim=128"]


def test_several_networks_of_an_arm_are_averaged_also_in_a_bundle(tmp_path: Path):
    bags, labels = _bags()
    model = MILClassifier(arm="ours-seeds2", **QUICK).fit(bags, labels)
    single = MILClassifier(arm="ours", **QUICK).fit(bags, labels)
    assert not np.allclose(model.predict_proba(bags), single.predict_proba(bags))
    card = model.to_bundle(tmp_path / "bundle")
    assert (card.arm, card.n_networks) == ("ours-seeds2", 2)
    again = MILClassifier.from_bundle(tmp_path / "bundle", device="cpu")
    np.testing.assert_allclose(again.predict_proba(bags), model.predict_proba(bags), rtol=1e-6)
    assert again.threshold_ == model.threshold_


def test_an_arm_with_three_labels():
    bags, labels = _bags(30, labels=("normal", "a", "b"))
    model = MILClassifier(arm="ours", negative="normal", inner_folds=2, **QUICK | {"epochs": 12})
    model.fit(bags, labels)
    assert model._card.class_calibration is not None
    probability = model.predict_proba(bags)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert (model.predict(bags) == labels).mean() >= 0.8


def test_an_arm_where_bags_have_several_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (40, 2))
    bags = [rng.normal(size=(5, 4)).astype(np.float32) for _ in labels]
    for bag, row in zip(bags, labels, strict=True):
        bag[np.arange(2), np.arange(2)] += 7 * row
    model = MILClassifier(arm="ours", inner_folds=2, **QUICK | {"epochs": 12}).fit(bags, labels)
    assert model._card.class_calibration is not None
    assert model._card.class_calibration.multi_label
    assert (model.predict(bags) == labels).mean() >= 0.85


def test_the_same_seed_gives_the_same_classifier():
    bags, labels = _bags()
    model = MILClassifier(arm="ours-top2", **QUICK)
    first = model.fit(bags, labels).predict_proba(bags)
    again = clone(model)
    assert not hasattr(again, "arm_")
    np.testing.assert_array_equal(again.fit(bags, labels).predict_proba(bags), first)


def test_cases_stay_together_in_the_choice():
    """Each case has bags of one kind; without its own case, a bag cannot be told by anything."""
    rng = np.random.default_rng(3)
    cases = np.repeat(np.arange(12), 4)
    marks = rng.normal(size=(12, 6)) * 8
    bags = [(marks[case] + rng.normal(size=(3, 6))).astype(np.float32) for case in cases]
    labels = cases % 2
    aware = MILClassifier(arm="ours", **QUICK).fit(bags, labels, groups=cases)
    blind = MILClassifier(arm="ours", **QUICK).fit(bags, labels)
    assert _calibration(aware).temperature > 2 * _calibration(blind).temperature


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arm": "our"}, r"arm our: 'our' is not known, .*did you mean ours"),
        ({"arm": "sdr-svm"}, "sdr-svm needs a study, .* such as ours-top5; or make a study: hardmil init"),
        ({"arm": "ours+verdicts"}, "needs a study"),
        ({"arm": ""}, "arm : '' is not known"),
    ],
)
def test_arms_that_cannot_be_trained_in_memory(settings: dict[str, str], message: str):
    with pytest.raises(ConfigError, match=message):
        MILClassifier(**settings, **QUICK).fit(*_bags(8))


def test_an_arm_does_not_continue_a_network():
    model = MILClassifier(**QUICK, warm_start=True).fit(*_bags(8))
    with pytest.raises(ConfigError, match="warm_start: continues one network, but the arm is ours"):
        model.set_params(arm="ours").fit(*_bags(8))
