import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.task import TaskConfig
from hardmil.evaluation.truth import instance_auc, share_of_look_alikes, truth_of_regions, verdicts_of_truth
from hardmil.files.geojson import Region, square
from hardmil.mil.bag_score import BagScore
from hardmil.mining.hard_instances import HardInstance


def _bag(name: str, label: int) -> Bag:
    """Four patches of 10 px in a row of two."""
    coords = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
    return Bag(name, name, label, np.zeros((4, 2), np.float32), coords, 10)


def _score(*attention: float) -> BagScore:
    return BagScore(0.5, np.array(attention, np.float32), np.zeros(4, np.float32))


def _codes(*codes: int) -> np.ndarray:
    return np.array(codes, np.int8)


def test_instance_auc_is_the_mean_over_positive_bags_with_both_kinds():
    bags = [_bag("a", 1), _bag("b", 1), _bag("c", 0), _bag("d", 1), _bag("e", 1)]
    truth = {
        "a": _codes(1, 0, 2, 0),
        "b": _codes(0, 1, 1, 0),
        "c": _codes(0, 2, 0, 0),
        "d": _codes(1, 1, 1, 1),
    }
    scores = [_score(0.4, 0.3, 0.2, 0.1), _score(0.4, 0.3, 0.2, 0.1), *[_score(0.1, 0.2, 0.3, 0.4)] * 3]
    # a: the lesion is first of all, 1.0; b: each of two lesions beats one of two others, 0.5; d has one kind.
    assert instance_auc(bags, scores=scores, truth=truth) == pytest.approx(0.75)
    assert np.isnan(instance_auc(bags, scores=scores, truth={}))


def _mined(slide_id: str, x: int, y: int) -> HardInstance:
    return HardInstance(1, slide_id, slide_id, 0, x, y, 10, 0.5, 0.9, -1, "train")


def test_mined_look_alikes_are_found_by_coordinates():
    bags, truth = [_bag("a", 0), _bag("b", 0)], {"a": _codes(0, 2, 0, 1)}
    pool = [
        _mined("a", 10, 0),
        _mined("a", 0, 10),
        _mined("a", 10, 10),
        _mined("a", 10, 0),
        _mined("b", 0, 0),
    ]
    assert share_of_look_alikes(pool, bags=bags, truth=truth) == pytest.approx(2 / 4)
    assert np.isnan(share_of_look_alikes([], bags=bags, truth=truth))
    assert np.isnan(share_of_look_alikes(pool[-1:], bags=bags, truth=truth))


def test_a_patch_is_what_a_quarter_of_it_is_and_a_lesion_first():
    regions = [
        Region(square(0, 0, 20), "look-alike"),
        Region(square(10, 0, 6), "lesion"),  # 49 of the 100 px of the second patch
        Region(square(0, 10, 3), "lesion"),  # 16 px of the third: too few
        Region(square(10, 10, 10), "stroma"),
    ]
    assert truth_of_regions(_bag("a", 1), regions=regions).tolist() == [2, 1, 2, 2]
    assert truth_of_regions(_bag("a", 0), regions=[]).tolist() == [0, 0, 0, 0]


def test_the_reviewer_made_of_truth_is_never_wrong():
    found = verdicts_of_truth({"a": _codes(1, 0, 2, 1)}, labels={"a": 1})
    assert found["a"].tolist() == [1, 0, 0, 1]


def test_with_many_classes_a_lesion_is_of_the_class_of_its_slide():
    task = TaskConfig(names=("normal", "a", "b"), negative="normal")
    truth = {"s1": _codes(1, 0, 2), "s2": _codes(0, 1, 2)}
    found = verdicts_of_truth(truth, labels={"s1": 1, "s2": 2}, task=task)
    assert {name: values.tolist() for name, values in found.items()} == {"s1": [2, 0, 0], "s2": [0, 3, 0]}


def test_bags_may_differ_in_size():
    truth = {name: np.arange(n, dtype=np.int8) % 2 for name, n in (("a", 4), ("b", 3), ("c", 6))}
    for _ in range(20):  # types are checked on a few values of a dict, drawn at random
        found = verdicts_of_truth(truth, labels=dict.fromkeys(truth, 1))
    assert [len(values) for values in found.values()] == [4, 3, 6]
