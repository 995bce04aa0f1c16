from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardmil.bags.bag import Bag
from hardmil.mil.batches import pack


def _bag(name: str, label: int, instances: np.ndarray) -> Bag:
    return Bag(name, name, label, instances, np.zeros((len(instances), 2), np.int64), 0)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-1, 1)), min_size=1, max_size=6))
def test_packing_keeps_order_and_the_offset_of_each_bag(shapes: list[tuple[int, int]]):
    rng = np.random.default_rng(0)
    bags = [
        _bag(f"s{i}", label, rng.normal(size=(n, 3)).astype(np.float32))
        for i, (n, label) in enumerate(shapes)
    ]
    batch = pack(bags)
    assert batch.n_bags == len(bags)
    assert batch.sizes.tolist() == [len(bag) for bag in bags]
    assert batch.labels.tolist() == [bag.label for bag in bags]
    row = 0
    for position, bag in enumerate(bags):
        assert batch.offsets[position] == row
        for instance in bag.instances:
            assert batch.instances[row].tolist() == instance.tolist()
            assert batch.bag_index[row] == position
            row += 1
    assert batch.offsets[-1] == row == len(batch.instances)


def test_what_some_bags_lack_is_filled_in_and_what_all_lack_is_none():
    first, second = (_bag(name, 0, np.zeros((n, 3), np.float32)) for name, n in (("a", 2), ("b", 3)))
    plain = pack([first, second])
    assert (plain.instance_labels, plain.instance_weights, plain.bag_weights) == (None, None, None)
    known = replace(
        second,
        instance_labels=np.array([1, 0, np.nan], np.float32),
        instance_weights=np.array([5, 1, 5], np.float32),
        weight=0.5,
    )
    batch = pack([first, known])
    assert batch.instance_labels is not None
    np.testing.assert_array_equal(batch.instance_labels, [np.nan, np.nan, 1, 0, np.nan])
    assert batch.instance_weights is not None
    assert batch.instance_weights.tolist() == [1, 1, 5, 1, 5]
    assert batch.bag_weights is not None
    assert batch.bag_weights.tolist() == [1, 0.5]


def test_neighbours_are_those_of_each_bag():
    coords = [np.array(one, np.int64) for one in ([(0, 0), (8, 0), (90, 0)], [(0, 0)], [(8, 0), (0, 0)])]
    bags = [Bag(f"s{i}", "c", 0, np.zeros((len(c), 2), np.float32), c, 8) for i, c in enumerate(coords)]
    expected = [(0, 1), (1, 0), (4, 5), (5, 4)]
    assert sorted(map(tuple, pack(bags).neighbours().T.tolist())) == expected
    assert pack([bags[1]]).neighbours().shape == (2, 0)
    with pytest.raises(TypeError, match="this batch has no bags"):
        replace(pack(bags), bags=()).neighbours()


def test_pixels_stay_whole_numbers_channels_last():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), dtype=np.uint8)
    batch = pack([_bag("a", 0, pixels[:3]), _bag("b", 1, pixels[3:])])
    assert batch.instances.dtype == torch.uint8
    np.testing.assert_array_equal(batch.instances.numpy(), pixels)


def test_half_precision_features_join_single_ones():
    batch = pack([_bag("a", 0, np.ones((1, 2), np.float16)), _bag("b", 1, np.full((1, 2), 0.1, np.float32))])
    assert batch.instances.dtype == torch.float32
    np.testing.assert_array_equal(batch.instances.numpy(), np.array([[1, 1], [0.1, 0.1]], np.float32))


@pytest.mark.parametrize("n_bags", [1, 2])
def test_a_bag_that_may_not_be_written_to_is_left_alone(n_bags: int):
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    features.flags.writeable = False
    batch = pack([_bag("a", 0, features)] * n_bags)
    batch.instances[0, 0] = 9
    assert features[0, 0] == 0
