"""MILClassifier: the README's use, scikit-learn's habits, and its errors."""

from collections.abc import Callable, Hashable

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from hardmil import MILClassifier
from hardmil.errors import BagError, ConfigError, EmptyBagError


def feature_bags(n: int = 24, *, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Bags of 8 to 14 instances; a positive one holds two that are shifted on the first axis."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    bags = [rng.normal(size=(int(rng.integers(8, 15)), 6)).astype(np.float32) for _ in labels]
    for bag, label in zip(bags, labels, strict=True):
        bag[: 2 * label, 0] += 6
    return bags, labels


def pixel_bags(n: int = 8, *, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Bags of five patches of noise; in a positive one the first is striped."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    bags = [rng.integers(0, 255, (5, 24, 24, 3), dtype=np.uint8) for _ in labels]
    for bag, label in zip(bags, labels, strict=True):
        if label:
            bag[0] = np.where(np.arange(24)[:, None, None] // 4 % 2, 230, 20)
    return bags, labels


def fitted(**settings: object) -> MILClassifier:
    bags, labels = feature_bags()
    return MILClassifier(**{"epochs": 12, "lr": 3e-3, "device": "cpu", **settings}).fit(bags, labels)


def test_learns_feature_bags_and_attends_to_the_planted_instances() -> None:
    model = fitted()
    bags, labels = feature_bags(seed=1)
    assert model.score(bags, labels) >= 0.95
    positive = bags[1]
    attention = model.attention(bags)[1]
    assert attention.shape == (len(positive),)
    assert attention.sum() == pytest.approx(1, abs=1e-5)
    assert set(np.argsort(-attention)[:2]) == {0, 1}


@pytest.mark.parametrize("pooling", ["linear-attention", "conjunctive", "topk"])
@pytest.mark.parametrize("bags_of", [feature_bags, pixel_bags])
def test_other_poolings_are_trained_on_features_and_pixels(
    pooling: str, bags_of: Callable[[], tuple[list[np.ndarray], np.ndarray]]
) -> None:
    bags, labels = bags_of()
    epochs, lr = (25, 3e-3) if bags[0].ndim == 2 else (60, 3e-4)
    model = MILClassifier(pooling=pooling, epochs=epochs, lr=lr, device="cpu").fit(bags, labels)
    assert model.score(bags, labels) >= 0.95


def test_probabilities_sum_to_one_and_agree_with_predict() -> None:
    model = fitted()
    bags, _ = feature_bags(seed=2)
    chances = model.predict_proba(bags)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    np.testing.assert_array_equal(model.predict(bags), model.classes_[(chances[:, 1] > 0.5).astype(int)])


@pytest.mark.parametrize(("negative", "positive"), [("benign", "malignant"), (-1, 1), (False, True)])
def test_labels_may_be_any_two_values(negative: object, positive: object) -> None:
    bags, labels = feature_bags()
    named = [positive if label else negative for label in labels]
    model = MILClassifier(epochs=12, lr=3e-3, device="cpu").fit(bags, named)
    assert model.classes_.tolist() == [negative, positive]
    assert model.score(bags, named) >= 0.95


def test_pixel_bags() -> None:
    bags, labels = pixel_bags()
    model = MILClassifier(epochs=25, lr=1e-3, device="cpu").fit(bags, labels)
    assert model.network_.instance_shape == (24, 24, 3)
    assert model.predict_proba(bags).shape == (8, 2)
    assert (model.predict_proba(bags)[1::2, 1].mean() - model.predict_proba(bags)[::2, 1].mean()) > 0.2


def test_out_of_fold_mining_says_where_hard_negatives_came_from() -> None:
    rng = np.random.default_rng(3)
    bags, labels = feature_bags(20)
    labels = rng.permutation(labels)  # nothing to learn: false positives are certain
    groups = np.arange(20) // 2
    model = MILClassifier(
        mining="fmb", mining_source="out-of-fold", inner_folds=3, epochs=8, lr=3e-3, device="cpu"
    ).fit(bags, labels, groups=groups)
    assert model.n_false_positive_bags_ > 0
    assert len(model.hard_negatives_) > 0
    for one in model.hard_negatives_:
        position = int(one.slide_id)
        assert labels[position] == 0
        assert one.case_id == str(groups[position])
        assert 0 <= one.instance < len(bags[position])
        assert one.bag_score > 0.5
        assert one.attention > 1 / len(bags[position])


def test_same_seed_same_scores_and_clone_is_unfitted() -> None:
    bags, _ = feature_bags(seed=4)
    first, second = fitted(random_state=5), fitted(random_state=5)
    np.testing.assert_array_equal(first.predict_proba(bags), second.predict_proba(bags))
    copy = clone(first).set_params(lam=1.0)
    assert copy.get_params()["random_state"] == 5
    assert copy.lam == 1.0
    with pytest.raises(NotFittedError, match="not fitted"):
        copy.predict(bags)


def test_works_in_scikit_learns_cross_validation() -> None:
    bags, labels = feature_bags()
    ragged = np.empty(len(bags), dtype=object)
    ragged[:] = bags
    scores = cross_val_score(MILClassifier(epochs=12, lr=3e-3, device="cpu"), ragged, labels, cv=3)
    assert scores.mean() > 0.8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "median"}, r"pooling\.kind: found 'median'"),
        ({"mining": "fbm"}, r"mining\.use: found 'fbm'"),
        ({"lr": -1.0}, r"training\.lr: found -1\.0"),
    ],
)
def test_wrong_parameters_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fitted(**settings)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([float("nan"), 1.0], r"bag 0: its label is nan; expected a value; leave out bags without a label"),
        ([1, None], r"bag 1: its label is None; expected a value"),
        ([np.datetime64("NaT"), np.datetime64("2020-01-01")], r"bag 0: its label is .*NaT"),
        (["0", 1], r"labels of different types: '0' and 1; expected text or numbers; convert"),
        ([True, "yes"], r"labels of different types: True and 'yes'"),
        (
            [(1, 0), (0, 1)],
            r"bag 0: its label is \(1, 0\); expected one value.* numpy\.argmax\(labels, axis=1\)",
        ),
        ([(0,), (1,)], r"bag 0: its label is \(0,\); expected one value; give labels\.ravel\(\)"),
        (
            ["Tumour", "tumour "],
            r"the labels \['Tumour', 'tumour '\] differ in upper and lower case or spaces",
        ),
        (["tumour", "tumour"], r"all 24 bags are labelled tumour; expected two labels"),
        ([1, 1.0], r"all 24 bags are labelled 1"),
    ],
)
def test_labels_that_are_not_of_two_classes_are_refused(labels: list[Hashable], message: str) -> None:
    bags, _ = feature_bags()
    with pytest.raises(BagError, match=message):
        MILClassifier(epochs=1, device="cpu").fit(bags, labels * 12)


def test_errors_call_a_bag_by_its_position() -> None:
    bags, labels = feature_bags()
    model = MILClassifier(epochs=1, device="cpu")
    nan = np.full_like(bags[3], np.nan)
    with pytest.raises(BagError, match=r"^bag 3: \d+ of \d+ instances have features that are NaN"):
        model.fit([*bags[:3], nan, *bags[4:]], labels)
    with pytest.raises(
        EmptyBagError, match=r"^bag 3: no instances; expected at least one; leave the bag out"
    ):
        model.fit([*bags[:3], bags[3][:0], *bags[4:]], labels)
    with pytest.raises(BagError, match=r"^bag 1: \d+ of \d+ instances have features that are NaN"):
        model.fit(bags, labels).predict([bags[0], nan])


def test_wrong_bags_are_named() -> None:
    bags, labels = feature_bags()
    model = MILClassifier(epochs=1, device="cpu")
    with pytest.raises(BagError, match="23 labels for 24 bags"):
        model.fit(bags, labels[1:])
    with pytest.raises(BagError, match="2 groups for 24 bags"):
        model.fit(bags, labels, groups=[1, 2])
    with pytest.raises(BagError, match="bag 3 has features of 4, bag 0 has features of 6"):
        model.fit([*bags[:3], bags[3][:, :4], *bags[4:]], labels)
    with pytest.raises(BagError, match=r"bag 0: instances of shape \(3,\); expected \(6,\)"):
        fitted().predict([bags[0][:, :3]])


@pytest.mark.parametrize(
    ("names", "settings", "positive"),
    [
        (("NORMAL", "LUAD"), {}, "LUAD"),
        (("LUSC", "LUAD"), {"positive": "LUAD"}, "LUAD"),
        (("LUAD", "LUSC"), {}, "LUSC"),
        ((0, 1), {}, 1),
        ((1, 0), {"positive": 0}, 0),
        ((False, True), {}, True),
    ],
)
def test_which_label_is_positive(
    names: tuple[object, object], settings: dict[str, object], positive: object
) -> None:
    """Names are those of bags without and with planted instances."""
    bags, index = feature_bags()
    labels = np.array([names[i] for i in index])
    model = MILClassifier(epochs=12, lr=3e-3, device="cpu", instance_loss=0.5, **settings).fit(bags, labels)
    assert model.positive_ == positive
    assert model.classes_.tolist() == sorted(set(labels.tolist()))
    assert model.score(bags, labels) >= 0.95
    column = model.classes_.tolist().index(positive)
    said = model.predict_proba(bags)[:, column]
    assert said[index == names.index(positive)].min() > 0.5 > said[index != names.index(positive)].max()


def test_a_positive_label_that_does_not_occur_is_refused() -> None:
    bags, labels = feature_bags()
    with pytest.raises(BagError, match=r"positive: 'tumour'; expected one of the labels, \[0, 1\]"):
        MILClassifier(positive="tumour", epochs=1).fit(bags, labels)


@pytest.mark.parametrize("convert", [np.float64, np.float16, np.asfortranarray, np.ndarray.tolist])
def test_the_form_of_an_array_does_not_change_the_model(convert: Callable[[np.ndarray], object]) -> None:
    bags, labels = feature_bags()
    bags = [bag.round(2).astype(np.float16).astype(np.float32) for bag in bags]
    settings = {"epochs": 1, "device": "cpu"}
    expected = MILClassifier(**settings).fit(bags, labels).predict_proba(bags)
    found = MILClassifier(**settings).fit([convert(bag) for bag in bags], labels).predict_proba(bags)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_booleans_and_whole_numbers_are_features(dtype: type) -> None:
    bags, labels = feature_bags()
    whole = [np.abs(bag).astype(dtype) for bag in bags]
    model = MILClassifier(epochs=1, device="cpu").fit(whole, labels)
    np.testing.assert_array_equal(
        model.predict_proba(whole), model.predict_proba([bag.astype(np.float32) for bag in whole])
    )


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda bag: np.ma.masked_greater(bag, 0), "its instances are MaskedArray"),
        (lambda bag: bag + 1j, "its instances are ndarray, complex"),
        (lambda bag: bag.astype(str), "its instances are ndarray, <U"),
        (csr_matrix, r"its instances are csr_matrix, object .* toarray\(\)"),
        (lambda bag: torch.from_numpy(bag).bfloat16(), r"is not an array .*float\(\)"),
        (lambda bag: [[1.0], [1.0, 2.0]], "is not an array .*inhomogeneous"),
        (lambda bag: bag[0], r"its instances are ndarray, float32 \(6,\)"),
        (lambda bag: bag.astype(np.float64) + 1e9, "feature 0 differs .* less than float32 can hold"),
    ],
)
def test_bags_that_would_be_misread_are_named(convert: Callable[[np.ndarray], object], message: str) -> None:
    bags, labels = feature_bags()
    with pytest.raises(BagError, match=f"bag 0: {message}"):
        MILClassifier(epochs=1).fit([convert(bag) for bag in bags], labels)


@pytest.mark.parametrize("missing", [None, np.nan])
def test_a_missing_group_is_not_a_case(missing: object) -> None:
    bags, labels = feature_bags()
    with pytest.raises(BagError, match=r"bag 1: its group is (None|nan); expected its case"):
        MILClassifier(epochs=1).fit(bags, labels, groups=["a", missing, *range(22)])


class _Frame:
    """A table with named columns, as a DataFrame is for numpy."""

    def __init__(self, values: np.ndarray, columns: str) -> None:
        self.values, self.columns = values, list(columns)

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return self.values


def test_columns_in_another_order_are_refused() -> None:
    bags, labels = feature_bags()
    model = MILClassifier(epochs=1, device="cpu").fit([_Frame(bag, "abcdef") for bag in bags], labels)
    plain = MILClassifier(epochs=1, device="cpu").fit(bags, labels)
    np.testing.assert_array_equal(
        model.predict_proba([_Frame(bags[0], "abcdef")]), plain.predict_proba(bags[:1])
    )
    with pytest.raises(BagError, match=r"bag 1: its columns are \['b', 'a', .*; expected \['a', 'b'"):
        model.predict([_Frame(bags[0], "abcdef"), _Frame(bags[1], "bacdef")])


def test_padded_bags_are_refused() -> None:
    bags, labels = feature_bags()
    padded = np.zeros((len(bags), 15, 6), np.float32)
    for row, bag in zip(padded, bags, strict=True):
        row[: len(bag)] = bag
    n = 15 - len(bags[0])
    with pytest.raises(
        BagError, match=f"bag 0: the last {n} of its 15 instances are all 0, as in padded bags"
    ):
        MILClassifier(epochs=1).fit(padded, labels)
    MILClassifier(epochs=1, device="cpu").fit(padded[:, :8], labels)
