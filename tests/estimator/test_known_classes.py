"""Classifiers of more than two labels."""

import pickle
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from tests.support.many_classes import class_bags

from hardmil import MILClassifier
from hardmil.bundles.bundle import load_bundle
from hardmil.errors import BagError, ConfigError

SETTINGS = {"epochs": 20, "lr": 3e-3, "device": "cpu"}
THREE = ("tumour", "adenoma", "normal")
"""Names of the classes of `class_bags`; not sorted."""


def bags_and_labels(names: Sequence[Hashable] = THREE) -> tuple[list[np.ndarray], list[Hashable]]:
    bags = class_bags(30)
    return [bag.instances for bag in bags], [names[bag.label] for bag in bags]


@pytest.fixture(scope="module")
def fitted() -> MILClassifier:
    return MILClassifier(**SETTINGS).fit(*bags_and_labels())


def test_probabilities_are_by_label_sum_to_one_and_agree_with_predict(fitted: MILClassifier):
    bags, labels = bags_and_labels()
    assert fitted.classes_.tolist() == sorted(THREE)
    assert not hasattr(fitted, "positive_")
    chances, scores = fitted.predict_proba(bags), fitted.decision_function(bags)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert fitted.score(bags, labels) > 0.95
    assert fitted.classes_[chances.argmax(axis=1)].tolist() == fitted.predict(bags).tolist()
    np.testing.assert_allclose(np.exp(scores), chances)


def test_each_label_has_its_attention(fitted: MILClassifier):
    """Patches 0 and 1 of a bag of class k are shifted in dimension k."""
    bags, labels = bags_and_labels()
    adenoma = [bag for bag, label in zip(bags, labels, strict=True) if label == "adenoma"]
    attention = fitted.attention(adenoma, label="adenoma")
    assert all(one.argmax() < 2 for one in attention)
    for shown, one in zip(fitted.attention(adenoma), attention, strict=True):
        np.testing.assert_array_equal(shown, one)
    assert not np.allclose(fitted.attention(adenoma, label="tumour")[0], attention[0])
    with pytest.raises(BagError, match=r"label: 'high'; expected one of .*: adenoma, normal, tumour"):
        fitted.attention(adenoma, label="high")


def test_ordered_labels_are_predicted_by_their_median():
    bags, labels = bags_and_labels([1, 2, 3])
    model = MILClassifier(ordinal=True, **SETTINGS).fit(bags, labels)
    assert model.network_.config.task.branch_names == ("2", "3")
    assert model.score(bags, labels) > 0.9
    chances = model.predict_proba(bags)
    or_higher = np.cumsum(chances[:, ::-1], axis=1)[:, ::-1]
    assert (1 + (or_higher[:, 1:] > 0.5).sum(axis=1)).tolist() == model.predict(bags).tolist()
    assert not hasattr(model, "decision_function"), "the highest score need not be the predicted label"


def test_what_is_mined_says_for_which_label_it_is_hard():
    bags, labels = bags_and_labels()
    settings = {**SETTINGS, "epochs": 3}
    model = MILClassifier(
        mining="inject", mining_source="out-of-fold", inner_folds=2, negative="normal", **settings
    ).fit(bags, labels)
    assert model.network_.config.task.negative == "normal"
    assert {one.hard_for for one in model.hard_negatives_} <= {"tumour", "adenoma"}
    wrong = [one for one in model.hard_negatives_ if labels[int(one.slide_id)] == one.hard_for]
    assert model.hard_negatives_
    assert wrong == []


def test_cross_validation_clone_and_pickle(fitted: MILClassifier):
    bags, labels = bags_and_labels()
    scores = cross_val_score(clone(fitted), bags, labels, cv=2, scoring="roc_auc_ovr", error_score="raise")
    assert scores.min() > 0.8
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(bags), fitted.predict_proba(bags))


@pytest.mark.parametrize("settings", [{}, {"ordinal": True}, {"negative": 1}], ids=str)
def test_a_bundle_gives_the_classifier_again(tmp_path: Path, settings: dict[str, Any]):
    bags, labels = bags_and_labels([1, 2, 3])
    model = MILClassifier(**settings, **{**SETTINGS, "epochs": 4}).fit(bags, labels)
    card = model.to_bundle(tmp_path / "bundle")
    assert (card.classes, card.task) == (("1", "2", "3"), model.network_.config.task)
    again = MILClassifier.from_bundle(tmp_path / "bundle", device="cpu")
    assert again.classes_.tolist() == ["1", "2", "3"]
    np.testing.assert_array_equal(again.predict_proba(bags), model.predict_proba(bags))
    assert again.predict(bags).tolist() == [str(one) for one in model.predict(bags).tolist()]
    again.set_params(warm_start=True, epochs=1).fit(bags, [str(one) for one in labels])


def test_columns_are_sorted_also_where_the_bundle_has_another_order(tmp_path: Path):
    bags, labels = bags_and_labels([1, 2, 3])
    MILClassifier(**SETTINGS).fit(bags, labels).to_bundle(tmp_path)
    card = load_bundle(tmp_path).card
    path = tmp_path / "bundle.json"
    names = {"1": "low", "2": "mid", "3": "high"}
    renamed = card.model_dump_json()
    for old, new in names.items():
        renamed = renamed.replace(f'"{old}"', f'"{new}"')
    path.write_text(renamed, encoding="utf-8")
    model = MILClassifier.from_bundle(tmp_path, device="cpu")
    assert model.classes_.tolist() == ["high", "low", "mid"]
    expected = [names[str(label)] for label in labels]
    assert model.score(bags, expected) > 0.95
    assert model.classes_[model.predict_proba(bags).argmax(axis=1)].tolist() == model.predict(bags).tolist()


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        ([0, 1, 2], {"positive": 1}, "positive: 1 of 3 labels; it is for two"),
        ([0, 1, 2], {"negative": 3}, "labels 0, 1, 2: negative is '3'; expected one of the classes"),
        (["a", "A", "b"], {}, r"the labels \['A', 'a'\] differ in upper and lower case or spaces only"),
        ([0.5, 1.5, 2.0], {}, r"Unknown label type: continuous, such as 0\.5; expected classes"),
        ([0, 1, 1], {"negative": 0}, "negative: 0; it is for more than two labels; of two, set positive"),
    ],
)
def test_labels_that_do_not_fit_the_parameters_are_refused(
    names: list[Hashable], settings: dict[str, Any], message: str
):
    bags, labels = bags_and_labels(names)
    with pytest.raises(BagError, match=message):
        MILClassifier(epochs=1, device="cpu", **settings).fit(bags, labels)


def test_a_network_of_other_labels_is_no_start(fitted: MILClassifier):
    bags, labels = bags_and_labels()
    again = clone(fitted).set_params(epochs=1).fit(bags, labels).set_params(warm_start=True)
    with pytest.raises(
        BagError, match=r"warm_start: the network tells apart .*'adenoma', 'normal', 'tumour'"
    ):
        again.fit(bags, ["a" if label == "normal" else label for label in labels])


def test_poolings_of_two_classes_are_refused():
    with pytest.raises(ConfigError, match="pooling: dsmil is for two labels; found 3"):
        MILClassifier("dsmil", epochs=1, device="cpu").fit(*bags_and_labels())
