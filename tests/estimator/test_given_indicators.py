from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_val_score
from tests.support.many_labels import MULTI, lesions_of, multi_bags

from hardmil.errors import BagError, ConfigError
from hardmil.estimator import MILClassifier
from hardmil.estimator.given_indicators import indicators_of

BAGS = [bag.instances for bag in multi_bags(48)]
Y = MULTI.answers(np.array([bag.label for bag in multi_bags(48)])).astype(int)


@pytest.fixture(scope="module")
def fitted() -> MILClassifier:
    return MILClassifier(epochs=20, lr=0.003, device="cpu").fit(BAGS, Y)


def test_predictions_are_indicators_as_of_scikit_learn(fitted: MILClassifier):
    chances, predicted = fitted.predict_proba(BAGS), fitted.predict(BAGS)
    assert chances.shape == predicted.shape == Y.shape
    np.testing.assert_array_equal(predicted, chances > 0.5)
    assert fitted.score(BAGS, Y) == np.mean((predicted == Y).all(axis=1)) >= 0.8
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert not hasattr(fitted, "positive_")
    assert not hasattr(fitted, "decision_function")


def test_each_label_has_its_attention(fitted: MILClassifier):
    for k in range(3):
        attention = [one for one, has in zip(fitted.attention(BAGS, label=k), Y[:, k], strict=True) if has]
        assert np.mean([int(one.argmax()) in lesions_of(k) for one in attention]) >= 0.8
    with pytest.raises(BagError, match=r"label: 'd'; expected one of those with attention of their own: 0"):
        fitted.attention(BAGS[:1], label="d")


def test_a_table_gives_the_names_and_a_bundle_keeps_them(tmp_path: Path):
    table = pd.DataFrame(Y, columns=["z", "a", "m"])
    model = MILClassifier(mining="inject", epochs=4, lr=0.003, device="cpu").fit(BAGS, table)
    assert model.classes_.tolist() == ["z", "a", "m"]
    assert {one.hard_for for one in model.hard_negatives_} <= {"z", "a", "m"}
    model.to_bundle(tmp_path)
    again = MILClassifier.from_bundle(tmp_path, device="cpu")
    assert again.classes_.tolist() == ["z", "a", "m"]
    np.testing.assert_allclose(again.predict_proba(BAGS), model.predict_proba(BAGS), rtol=1e-6)
    np.testing.assert_array_equal(again.predict(BAGS), model.predict(BAGS))


def test_cross_validation(fitted: MILClassifier):
    model = clone(fitted).set_params(epochs=2)
    folds = KFold(2, shuffle=True, random_state=0)
    assert cross_val_score(model, np.array(BAGS, dtype=object), Y, cv=folds).shape == (2,)


def test_only_arrays_of_zeros_and_ones_are_several_labels():
    assert indicators_of(Y) is not None
    assert indicators_of((Y == 1).tolist()) is not None
    for other in (
        [0, 1],
        [[0], [1]],
        [[0, 2], [1, 1]],
        [["a", "b"], ["a", "a"]],
        [[1, 0], [0, 1]],
        [[1], []],
    ):
        assert indicators_of(other) is None


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (Y[:5], {}, r"5 rows of labels for 48 bags; expected one for each bag"),
        (np.c_[Y, np.zeros(48)], {}, r"no bag has label 3; expected bags with it and bags without it"),
        (np.c_[np.ones(48), Y], {}, r"all bags have label 0; expected bags with it and bags without it"),
        (Y, {"positive": 1}, r"positive, negative, ordinal: set, and y has a column for each label"),
        (Y, {"ordinal": True}, r"positive, negative, ordinal: set, and y has a column for each label"),
        (
            pd.DataFrame(Y, columns=["a", "b", "none"]),
            {},
            r"labels a, b, none: classes: 'none'",
        ),
        (Y, {"pooling": "dsmil"}, r"pooling: dsmil is for two labels; found 3"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(labels: Any, settings: dict[str, Any], message: str):
    with pytest.raises((BagError, ConfigError), match=message):
        MILClassifier(epochs=1, device="cpu", **settings).fit(BAGS, labels)
