"""Classifiers from bundles, and bundles from classifiers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hardmil import MILClassifier
from hardmil.bundles.bundle import load_bundle, save_bundle
from hardmil.errors import BagError, BundleError
from hardmil.files.csv_table import read_table
from hardmil.mil.calibration import Calibration
from hardmil.mining.hard_instances import HardInstance

SETTINGS = {"epochs": 6, "lr": 1e-2, "bags_per_step": 4, "device": "cpu"}


def bags_and_labels() -> tuple[list[np.ndarray], list[str]]:
    rng = np.random.default_rng(0)
    labels = ["normal", "tumour"] * 10
    bags = [rng.normal(size=(int(rng.integers(4, 7)), 4)).astype(np.float32) for _ in labels]
    for bag, label in zip(bags, labels, strict=True):
        bag[0, 0] += 5 * (label == "tumour")
    return bags, labels


def test_a_bundle_gives_the_classifier_again(tmp_path: Path):
    bags, labels = bags_and_labels()
    model = MILClassifier("gated-attention", lam=1.5, instance_loss=0.5, **SETTINGS).fit(bags, labels)
    card = model.to_bundle(tmp_path / "bundle")
    assert (card.arm, card.classes, card.threshold) == ("gated", ("normal", "tumour"), 0.5)
    again = MILClassifier.from_bundle(tmp_path / "bundle", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(bags), model.predict_proba(bags))
    np.testing.assert_array_equal(again.predict(bags), model.predict(bags))
    parameters = again.get_params()
    assert {name: parameters[name] for name in ("pooling", "lam", "instance_loss", *SETTINGS)} == {
        "pooling": "gated-attention",
        "lam": 1.5,
        "instance_loss": 0.5,
        **SETTINGS,
    }
    assert again.n_features_in_ == 4
    assert again.positive_ == "tumour"


def test_threshold_calibration_and_further_networks_of_a_bundle_are_used(tmp_path: Path):
    bags, labels = bags_and_labels()
    first, second = (MILClassifier(random_state=seed, **SETTINGS).fit(bags, labels) for seed in (0, 1))
    first.to_bundle(tmp_path / "one")
    one = load_bundle(tmp_path / "one", device="cpu")
    calibration = Calibration(method="temperature", temperature=4.0)
    card = one.card.model_copy(update={"threshold": 0.97, "calibration": calibration, "n_networks": 2})
    save_bundle(tmp_path / "two", replace(one, card=card, others=(second.network_,)))
    model = MILClassifier.from_bundle(tmp_path / "two", device="cpu")
    scores = np.array([one.bag_score for one in load_bundle(tmp_path / "two").score(_bags(model, bags))])
    np.testing.assert_array_equal(model.predict(bags) == "tumour", scores > 0.97)
    np.testing.assert_allclose(model.predict_proba(bags)[:, 1], calibration.probabilities(scores))
    assert not np.allclose(scores, first.predict_proba(bags)[:, 1])


def _bags(model: MILClassifier, arrays: list[np.ndarray]):
    return [model._bag(array, i, -1, str(i)) for i, array in enumerate(arrays)]


def test_hard_negatives_are_in_the_bundle(tmp_path: Path):
    bags, labels = bags_and_labels()
    bags[0][0, 0] += 5
    model = MILClassifier(mining="inject", **SETTINGS | {"epochs": 2}).fit(bags, labels)
    card = model.to_bundle(tmp_path)
    kept = read_table(tmp_path / card.content / "hard_negatives.csv", HardInstance)
    assert [one.key for one in kept] == [one.key for one in model.hard_negatives_]
    assert card.n_hard == len(kept) > 0
    assert card.arm == "ours+inject"


def test_warm_start_goes_on_from_the_network_of_a_bundle(tmp_path: Path):
    bags, labels = bags_and_labels()
    MILClassifier(**SETTINGS | {"epochs": 30}).fit(bags, labels).to_bundle(tmp_path)
    cold = MILClassifier(**SETTINGS | {"epochs": 1, "lr": 1e-6}).fit(bags, labels)
    warm = MILClassifier.from_bundle(tmp_path, device="cpu")
    warm.set_params(warm_start=True, epochs=1, lr=1e-6)
    before = warm.predict_proba(bags)
    warm.fit(bags, labels)
    np.testing.assert_allclose(warm.predict_proba(bags), before, atol=1e-3)
    assert np.abs(cold.predict_proba(bags) - before).max() > 0.1
    with pytest.raises(BagError, match=r"instances of shape \(3,\); expected \(4,\), as in training"):
        warm.fit([bag[:, :3] for bag in bags], labels)


def test_pixels_are_refused(tmp_path: Path):
    pixels = [np.full((2, 24, 24, 3), 40 * i, np.uint8) for i in range(4)]
    model = MILClassifier(epochs=1, device="cpu").fit(pixels, [0, 1, 0, 1])
    with pytest.raises(BundleError, match=r"is of pixels; expected features; .* use a study"):
        model.to_bundle(tmp_path)
