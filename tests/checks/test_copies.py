"""Bags with the same content are found, also where they were written again; bags of one style are not."""

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.checks.copies import BagMatch, bag_signature, notes_on_copies, similar_bags

DIM = 12


def _bag(name: str, instances: np.ndarray, *, case: str | None = None) -> Bag:
    coords = np.zeros((len(instances), 2), dtype=np.int64)
    return Bag(name, case or name, 0, np.ascontiguousarray(instances), coords, 0)


def _features(n: int = 8, *, size: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(size, DIM)).astype(np.float32) for _ in range(n)]


def _matches(some: list[np.ndarray]) -> list[BagMatch]:
    return similar_bags([bag_signature(_bag(f"s{i}", one)) for i, one in enumerate(some)])


def _pairs(some: list[np.ndarray]) -> list[tuple[int, int, str]]:
    return [(one.first, one.second, one.kind) for one in _matches(some)]


def _shuffled(features: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).permutation(features)


def test_different_bags_do_not_match():
    assert _pairs(_features()) == []


def test_an_identical_bag_is_found_also_among_two():
    some = _features()
    assert _pairs([*some, some[2].copy()]) == [(2, 8, "identical")]
    assert _pairs([some[0], some[0].copy()]) == [(0, 1, "identical")]


@pytest.mark.parametrize(
    "again",
    [
        lambda x: x.astype(np.float16),
        lambda x: (x.view(np.uint32) & 0xFFFF0000).view(np.float32),  # as bfloat16
        _shuffled,
        lambda x: x + np.float32(1e-3) * np.random.default_rng(2).normal(size=x.shape).astype(np.float32),
        lambda x: _shuffled(x)[: len(x) * 3 // 5],
        lambda x: np.concatenate([x, np.random.default_rng(3).normal(size=(15, DIM)).astype(np.float32)]),
    ],
    ids=["float16", "bfloat16", "another order", "rounding", "fewer patches", "more patches"],
)
def test_a_bag_that_was_encoded_again_is_found(again):
    some = _features()
    assert _pairs([*some, again(some[5])]) == [(5, 8, "nearly identical")]


def test_the_share_of_a_copy_in_another_order_is_one():
    some = _features()
    (match,) = _matches([*some, _shuffled(some[5])])
    assert match.share == pytest.approx(1)


def test_each_identical_copy_is_named_with_the_first():
    some = _features()
    assert _pairs([*some, some[2], some[2]]) == [(2, 8, "identical"), (2, 9, "identical")]


def test_several_copies_of_one_slide_are_found():
    some = _features()
    copies = [_shuffled(some[0])[:-k] for k in (1, 2, 3)]
    found = {(a, b) for a, b, _ in _pairs([*some, *copies])}
    assert found == {(0, 8), (0, 9), (0, 10), (8, 9), (8, 10), (9, 10)}


def test_blank_patches_that_many_slides_have_do_not_count():
    blank = np.full((1, DIM), 20, dtype=np.float32)
    rng = np.random.default_rng(4)
    some = [
        np.concatenate([x, blank + 0.01 * rng.normal(size=(3, DIM)).astype(np.float32)]) for x in _features()
    ]
    assert _pairs(some) == []
    assert _pairs([*some, _shuffled(some[1])]) == [(1, 8, "nearly identical")]


def test_the_result_does_not_depend_on_the_block_of_rows(monkeypatch: pytest.MonkeyPatch):
    some = _features()
    some.append(_shuffled(some[3])[:-5])
    whole = _matches(some)
    monkeypatch.setattr("hardmil.checks.copies._ROWS_AT_ONCE", 2)
    assert _matches(some) == whole


def test_pixels_are_compared_too():
    rng = np.random.default_rng(0)
    some = [rng.integers(0, 255, (20, 16, 16, 3), dtype=np.uint8) for _ in range(6)]
    assert _pairs(some) == []
    assert _pairs([*some, _shuffled(some[4])]) == [(4, 6, "nearly identical")]


def test_identical_dead_features_are_only_identical():
    dead = np.ones((5, DIM), dtype=np.float32)
    assert _pairs([dead, *_features(4), dead.copy()]) == [(0, 5, "identical")]


def test_the_note_names_the_pair_in_different_cases():
    some = _features()
    bags = [_bag(f"s{i}", one) for i, one in enumerate(some)]
    assert notes_on_copies(bags) == []
    (note,) = notes_on_copies([*bags, _bag("again", _shuffled(some[5]), case="other")])
    assert "1 pair of slides in different cases" in note
    assert "first s5 (case s5) and again (case other)" in note
    assert notes_on_copies([*bags, _bag("again", _shuffled(some[5]), case="s5")]) == []
