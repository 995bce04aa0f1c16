from dataclasses import replace

import numpy as np
import pytest
import torch

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Bundle, Card
from hardmil.bundles.cases import Cases, CaseScore
from hardmil.bundles.tables import CaseRow, slide_prediction
from hardmil.bundles.training_profile import profile_of
from hardmil.config.model import ModelConfig, resolve_config
from hardmil.mil.inference import score_bags
from hardmil.mil.network import BagClassifier

SIZES = {
    "a1": ("a", 30, 1),
    "a2": ("a", 50, -1),
    "b1": ("b", 40, 0),
    "c1": ("c", 20, 0),
    "c2": ("c", 20, -1),
    "d1": ("d", 12, 0),
}


def _bag(slide_id: str) -> Bag:
    case_id, n, label = SIZES[slide_id]
    instances = np.random.default_rng(n).normal(label, 1, (n, 4)).astype(np.float32)
    return Bag(slide_id, case_id, label, instances, np.zeros((n, 2), np.int64), 256)


def _bundle(*, smooth_steps: int = 0) -> Bundle:
    torch.manual_seed(3)
    content = {"network": {"embedding_dim": 8}, "pooling": {"smooth_steps": smooth_steps}}
    config = ModelConfig.model_validate(content)
    network = BagClassifier(resolve_config(config, kind="features"), instance_shape=(4,)).eval()
    card = Card(
        hardmil="0.1.0",
        fingerprint="abc",
        arm="ours",
        classes=("normal", "tumour"),
        threshold=0.5,
        instances="features",
        patches=None,
        training_profile=profile_of([_bag(name) for name in ("a2", "b1")]),
        training_slides=("s1",),
        n_false_positive_bags=0,
        n_hard=0,
    )
    return Bundle(network, card)


def _cases(how: CaseScore, *, failed: tuple[str, ...] = ()) -> dict[str, CaseRow]:
    bundle = _bundle()
    cases = Cases(bundle, how=how)
    for name in SIZES:
        if name not in failed:
            bag = _bag(name)
            cases.add(bag, slide_prediction(bag, score_bags(bundle.network, [bag])[0], card=bundle.card))
    rows = cases.rows(failed=[SIZES[name][0] for name in failed])
    return {row.case_id: row for row in rows}


def _score(*names: str) -> float:
    bags = [_bag(name) for name in names]
    whole = np.concatenate([bag.instances for bag in bags])
    bag = Bag("x", "x", -1, whole, np.zeros((len(whole), 2), np.int64), 0)
    return score_bags(_bundle().network, [bag])[0].bag_score


def test_patches_of_a_case_are_smoothed_within_their_slides():
    """The slides of a case have patches at the same places."""
    bundle, names = _bundle(smooth_steps=3), ("a1", "a2")
    bags = [replace(_bag(name), coords=_column(name)) for name in names]
    cases = Cases(bundle, how="pooled")
    for bag in bags:
        cases.add(bag, slide_prediction(bag, score_bags(bundle.network, [bag])[0], card=bundle.card))
    (row,) = cases.rows(failed=[])
    # Far apart on one slide they are not adjacent either.
    apart = np.concatenate([bags[0].coords, bags[1].coords + 10_000_000])
    whole = np.concatenate([bag.instances for bag in bags])
    expected = score_bags(bundle.network, [Bag("x", "x", -1, whole, apart, 256)])[0].bag_score
    assert row.bag_score == pytest.approx(expected, abs=1e-6)
    assert row.bag_score != pytest.approx(_score(*names), abs=1e-5)


def _column(name: str) -> np.ndarray:
    """Coordinates of patches below each other."""
    n = SIZES[name][1]
    return np.stack([np.zeros(n, np.int64), 256 * np.arange(n)], axis=1)


def test_a_case_by_all_its_patches_by_its_worst_slide_and_by_the_mean():
    one, two = _score("a1"), _score("a2")
    assert one != pytest.approx(two)
    assert _cases("pooled")["a"].bag_score == pytest.approx(_score("a1", "a2"))
    assert _cases("max")["a"].bag_score == pytest.approx(max(one, two))
    assert _cases("mean")["a"].bag_score == pytest.approx((one + two) / 2)


@pytest.mark.parametrize("how", ["pooled", "max", "mean"])
def test_a_case_of_one_slide_has_its_score(how: CaseScore):
    row = _cases(how)["b"]
    assert (row.bag_score, row.n_slides) == (pytest.approx(_score("b1")), 1)
    assert row.case_score == "its one slide"


def test_a_label_is_known_if_no_other_slide_could_change_it():
    rows = _cases("pooled")
    assert {case_id: row.label for case_id, row in rows.items()} == {
        "a": "tumour",
        "b": "normal",
        "c": "",
        "d": "normal",
    }
    assert [rows[case].n_slides for case in "abc"] == [2, 1, 2]


def test_a_case_has_the_warnings_of_its_slides_and_of_what_is_missing():
    rows = _cases("pooled")
    assert rows["a"].warnings == ""
    assert rows["c"].warnings == "", "20 patches are half of the smallest training bag, and not fewer"
    assert "few patches: 12" in rows["d"].warnings
    missing = _cases("pooled", failed=("a2",))["a"]
    assert missing.warnings.startswith("1 of its slides")
    assert missing.bag_score == pytest.approx(_score("a1"))
    assert list(_cases("pooled", failed=("b1",))) == ["a", "c", "d"]


def test_a_case_is_called_at_the_threshold_of_the_bundle():
    for row in _cases("max").values():
        assert row.prediction == ("tumour" if row.bag_score > row.threshold else "normal")
        assert row.probabilities["tumour"] == pytest.approx(row.bag_score)
        assert (row.operating_point, row.op_prediction, row.threshold) == ("", "", 0.5)
