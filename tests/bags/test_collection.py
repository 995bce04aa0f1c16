import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.collection import notes_on


def bag(name: str, instances: np.ndarray) -> Bag:
    return Bag(name, "c", 0, instances.astype(np.float32), np.zeros((len(instances), 2), np.int64), 16)


def test_bags_of_dead_features_are_named():
    different = np.arange(12).reshape(3, 4)
    bags = [bag("alive", different), bag("dead", np.ones((3, 4))), bag("single", np.ones((1, 4)))]
    (note,) = notes_on(bags)
    assert note.startswith("note: all patches of dead have the same features, so attention has nothing")
    assert notes_on(bags[:1]) == []


def test_slides_without_patches_are_named():
    (note,) = notes_on([], empty=["a", "b", "c", "d", "e", "f", "g"])
    assert note == "note: no patches in the bag of a, b, c, d, e and 2 more: left out"
