from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.task import TaskConfig
from hardmil.mining.hard_instances import HardInstance
from hardmil.mining.injection import Distractors, weighed


def _bag(name: str, label: int, n: int = 8) -> Bag:
    """Instance j of bag `name` is (number of the bag, j), so that each can be told."""
    number = int(name[1:])
    instances = np.stack([np.full(n, number), np.arange(n)], axis=1).astype(np.float32)
    return Bag(name, f"c{number}", label, instances, np.arange(2 * n).reshape(n, 2) + 100 * number, 16)


BAGS = {name: _bag(name, label) for name, label in (("s0", 0), ("s1", 1), ("s2", 0), ("s3", 1))}


def _mined(slide_id: str, instance: int) -> HardInstance:
    x, y = (int(v) for v in BAGS[slide_id].coords[instance])
    return HardInstance(1, slide_id, BAGS[slide_id].case_id, instance, x, y, 16, 0.5, 0.9, -1, "train")


POOL = [_mined("s0", 3), _mined("s0", 5), _mined("s2", 1)]


def _distractors(seed: int = 0, **settings: Any) -> Distractors:
    config = MiningConfig.model_validate({"use": "inject", "inject_chance": 1.0, **settings})
    return Distractors(POOL, BAGS, config, seed)


@given(st.integers(0, 50), st.integers(0, 20), st.sampled_from(sorted(BAGS)))
def test_what_is_appended_is_of_the_pool_and_nothing_is_lost(seed: int, epoch: int, name: str):
    bag = BAGS[name]
    mixed = _distractors(seed).mix(bag, epoch=epoch)
    np.testing.assert_array_equal(mixed.instances[:8], bag.instances)
    np.testing.assert_array_equal(mixed.coords[:8], bag.coords)
    assert len(mixed) == 8 + 2
    assert (mixed.label, mixed.slide_id) == (bag.label, bag.slide_id)
    allowed = {(0.0, 3.0), (0.0, 5.0), (2.0, 1.0)}
    assert {tuple(row) for row in mixed.instances[8:].tolist()} <= allowed
    for (number, instance), place in zip(mixed.instances[8:], mixed.coords[8:], strict=True):
        np.testing.assert_array_equal(place, BAGS[f"s{int(number)}"].coords[int(instance)])


@pytest.mark.parametrize(("share", "n_added"), [(0.05, 1), (0.06, 1), (0.25, 2), (0.3, 2), (1.0, 8)])
def test_a_bag_that_gets_instances_gets_at_least_one(share: float, n_added: int):
    """Of eight instances, 5% are 0.4."""
    assert len(_distractors(inject_share=share).mix(BAGS["s0"], epoch=0)) == 8 + n_added


def test_replacing_keeps_the_size_and_at_least_one_instance():
    mixed = _distractors(inject_how="replace", inject_share=0.5).mix(BAGS["s1"], epoch=0)
    own = mixed.instances[mixed.instances[:, 0] == 1]
    assert (len(mixed), len(own)) == (8, 4)
    one = _bag("s1", 1, n=1)
    assert _distractors(inject_how="replace", inject_share=1.0).mix(one, epoch=0).instances[0].tolist() == [
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("into", "changed"),
    [("both", {"s0", "s1", "s2", "s3"}), ("positive", {"s1", "s3"}), ("negative", {"s0", "s2"})],
)
def test_bags_that_are_injected_into(into: str, changed: set[str]):
    distractors = _distractors(inject_into=into)
    assert {name for name, bag in BAGS.items() if len(distractors.mix(bag, epoch=0)) > 8} == changed


def test_chance_is_met_and_depends_on_seed_epoch_and_slide_alone():
    distractors = _distractors(inject_chance=0.3)
    drawn = [[len(distractors.mix(bag, epoch=epoch)) > 8 for epoch in range(500)] for bag in BAGS.values()]
    assert np.mean(drawn) == pytest.approx(0.3, abs=0.04)
    assert drawn[0] != drawn[1]
    again = [len(distractors.mix(BAGS["s0"], epoch=epoch)) > 8 for epoch in reversed(range(500))][::-1]
    assert again == drawn[0]
    other = [len(_distractors(1, inject_chance=0.3).mix(BAGS["s0"], epoch=epoch)) > 8 for epoch in range(500)]
    assert other != drawn[0]


def test_annotations_stay_with_their_instances():
    labels, weights = np.linspace(0, 1, 8, dtype=np.float32), np.arange(8, dtype=np.float32)
    bag = Bag("s1", "c1", 1, BAGS["s1"].instances, BAGS["s1"].coords, 16, labels, weights)
    mixed = _distractors().mix(bag, epoch=0)
    assert mixed.instance_labels is not None
    assert mixed.instance_weights is not None
    np.testing.assert_array_equal(mixed.instance_labels, [*labels, np.nan, np.nan])
    np.testing.assert_array_equal(mixed.instance_weights, [*weights, 1, 1])


@pytest.mark.parametrize("name", ["s0", "s1"])
def test_what_is_put_into_a_bag_is_adjacent_to_patches_of_its_own_slide_only(name: str):
    """All slides have their patches at the same places, 16 px apart."""
    row = np.stack([16 * np.arange(8), np.zeros(8, np.int64)], axis=1)
    bags = {one: replace(bag, coords=row) for one, bag in BAGS.items()}
    pool = [replace(one, x=16 * one.instance, y=0) for one in POOL]
    config = MiningConfig(use="inject", inject_chance=1.0, inject_share=1.0)
    bag = Distractors(pool, bags, config, 0).mix(bags[name], epoch=0)
    origin, place = bag.instances[:, 0].tolist(), bag.instances[:, 1].tolist()
    assert set(origin[8:]) == {0, 2}
    assert sorted(j for i, j in bag.neighbours.T.tolist() if i == 2 and j < 8) == [1, 3]
    for i, j in bag.neighbours.T.tolist():
        assert origin[i] == origin[j]
        assert abs(place[i] - place[j]) == 1
    assert (len(bag.neighbours.T) > 14) == (name == "s0"), "those of s0 are adjacent to its other patches"


def test_named_instances_weigh_more_in_negative_bags_alone():
    pool = [*POOL, replace(POOL[0], slide_id="s1", case_id="c1")]
    first, second, third, fourth = weighed(list(BAGS.values()), pool=pool, weight=7.0)
    order = [bag.slide_id for bag in (first, second, third, fourth)]
    assert order == ["s0", "s1", "s2", "s3"]
    assert first.instance_weights is not None
    assert first.instance_weights.tolist() == [1, 1, 1, 7, 1, 7, 1, 1]
    assert third.instance_weights is not None
    assert third.instance_weights.tolist() == [1, 7, 1, 1, 1, 1, 1, 1]
    assert second is BAGS["s1"]
    assert fourth is BAGS["s3"]


def test_within_keeps_the_instances_of_those_slides():
    extras = _distractors()
    assert extras.cases() == {"c0", "c2"}
    inside = extras.within({"s2", "s3"})
    assert inside is not None
    assert [one.key for one in inside.pool] == [("s2", 1)]
    assert inside.cases() == {"c2"}
    assert extras.within({"s1"}) is None
    changed = [inside, _distractors(seed=1), _distractors(inject_share=0.5)]
    assert len({extras.fingerprint(), *(one.fingerprint() for one in changed)}) == 4
    assert extras.fingerprint() == _distractors().fingerprint()


NAMES = ("normal", "a", "b")
THREE = {f"s{label}": _bag(f"s{label}", label) for label in range(3)}


@pytest.mark.parametrize(
    ("task", "into", "expected"),
    [
        (TaskConfig(names=NAMES, negative="normal"), "both", {0: {0}, 1: {0, 1}, 2: {0, 2}}),
        (TaskConfig(names=NAMES, negative="normal"), "positive", {1: {0}, 2: {0}}),
        (TaskConfig(names=NAMES, negative="normal"), "negative", {0: {0}, 1: {1}, 2: {2}}),
        (TaskConfig(names=NAMES), "positive", {}),
        (TaskConfig(names=NAMES), "both", {0: {0}, 1: {1}, 2: {2}}),
        (TaskConfig(names=NAMES, ordinal=True), "positive", {1: {0}, 2: {0, 1}}),
        (TaskConfig(names=NAMES, ordinal=True), "both", {0: {0}, 1: {0, 1}, 2: {0, 1, 2}}),
    ],
)
def test_a_bag_of_many_classes_takes_only_instances_that_keep_its_label(
    task: TaskConfig, into: str, expected: dict[int, set[int]]
):
    """By label of the bag: the classes that what it takes is from."""
    pool = [
        HardInstance(1, name, name, j, 0, 0, 16, 0.5, 0.9, -1, "train") for name in THREE for j in range(8)
    ]
    config = MiningConfig.model_validate({"use": "inject", "inject_chance": 1.0, "inject_into": into})
    extras = Distractors(pool, THREE, config, 0, task)
    found: dict[int, set[int]] = {}
    for label, bag in enumerate(THREE.values()):
        taken = [extras.mix(bag, epoch=epoch).instances[8:, 0] for epoch in range(40)]
        sources = {int(number) for numbers in taken for number in numbers}
        if sources:
            found[label] = sources
    assert found == expected


def test_an_instance_weighs_more_in_the_branch_of_the_class_that_it_is_hard_for():
    task = TaskConfig(names=NAMES, negative="normal")
    pool = [
        HardInstance(1, "s0", "c0", 3, 0, 0, 16, 0.5, 0.9, -1, "train", "a"),
        HardInstance(1, "s0", "c0", 4, 0, 0, 16, 0.5, 0.9, -1, "train", "b"),
        HardInstance(1, "s1", "c1", 5, 0, 0, 16, 0.5, 0.9, -1, "train", "b"),
        HardInstance(1, "s2", "c2", 6, 0, 0, 16, 0.5, 0.9, -1, "train", "b"),
    ]
    normal, a, b = weighed(list(THREE.values()), pool=pool, weight=4, task=task)
    expected = np.ones((8, 2), np.float32)
    expected[3, 0] = expected[4, 1] = 4
    np.testing.assert_array_equal(normal.instance_weights, expected)
    expected = np.ones((8, 2), np.float32)
    expected[5, 1] = 4
    np.testing.assert_array_equal(a.instance_weights, expected)
    assert b.instance_weights is None


def test_a_bag_of_several_classes_takes_instances_of_bags_whose_classes_it_has():
    """Labels: none, a, b, and both."""
    task, names = TaskConfig(names=("a", "b"), multi_label=True), [f"s{label}" for label in range(4)]
    bags = {name: _bag(name, label) for label, name in enumerate(names)}
    pool = [
        HardInstance(1, name, name, j, 0, 0, 16, 0.5, 0.9, -1, "train", "a")
        for name in names
        for j in range(8)
    ]
    config = MiningConfig.model_validate({"use": "inject", "inject_chance": 1.0})
    extras = Distractors(pool, bags, config, 0, task)
    found = {
        label: {
            int(number)
            for epoch in range(60)
            for number in extras.mix(bag, epoch=epoch).instances[8:, 0].tolist()
        }
        for label, bag in enumerate(bags.values())
    }
    assert found == {0: {0}, 1: {0, 1}, 2: {0, 2}, 3: {0, 1, 2, 3}}
