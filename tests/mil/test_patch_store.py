import numpy as np
import torch

from hardmil.bags.bag import Bag
from hardmil.device import Device
from hardmil.mil.augment import apply_symmetries
from hardmil.mil.patch_store import PatchStore

CPU = Device("cpu", bfloat16=False)


def _bag(name: str, n: int) -> Bag:
    pixels = np.random.default_rng(n).integers(0, 256, (n, 5, 5, 3), dtype=np.uint8)
    return Bag(name, name, 0, pixels, np.zeros((n, 2), np.int64), 5)


def _taken(store: PatchStore, first: int, n: int) -> np.ndarray:
    return store.take(torch.arange(first, first + n), symmetry=torch.zeros(n, dtype=torch.int64)).numpy()


def test_patches_of_each_bag_are_found_and_a_shared_bag_is_stored_once():
    one, two = _bag("a", 3), _bag("b", 4)
    store = PatchStore([one, two, one], device=CPU)
    firsts = store.place([two, one, two])
    assert sorted(firsts) == [0, 3, 3]
    for bag, first in zip((two, one, two), firsts, strict=True):
        np.testing.assert_array_equal(_taken(store, first, len(bag)), bag.instances)


def test_drawn_bags_are_found_too_and_do_not_disturb_the_stored_ones():
    stored = [_bag("a", 3), _bag("b", 4)]
    store = PatchStore(stored, device=CPU)
    for n in (2, 30, 5):
        drawn = [_bag("hard-bag-0", n), _bag("hard-bag-1", n + 1)]
        firsts = store.place([drawn[0], stored[1], drawn[1], stored[0], None])
        for bag, first in zip((drawn[0], stored[1], drawn[1], stored[0]), firsts, strict=False):
            np.testing.assert_array_equal(_taken(store, first, len(bag)), bag.instances)


def test_patches_are_turned_as_apply_symmetries_turns_them():
    bag = _bag("a", 16)
    symmetry = torch.arange(16) % 8
    taken = PatchStore([bag], device=CPU).take(torch.arange(16), symmetry=symmetry)
    assert torch.equal(taken, apply_symmetries(torch.from_numpy(bag.instances), symmetry=symmetry))
