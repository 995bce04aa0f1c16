from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardmil.bags.bag import Bag
from hardmil.bags.neighbours import neighbour_pairs

PATCHES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=40
)


def _grid(width: int, height: int, *, step: int) -> np.ndarray:
    return np.array([(70 + step * i, 40 + step * j) for j in range(height) for i in range(width)], np.int64)


def _found(coords: np.ndarray, *, size: int, slides: np.ndarray | None = None) -> list[tuple[int, int]]:
    pairs = neighbour_pairs(coords, size_level0_px=size, slides=slides)
    found = [(int(i), int(j)) for i, j in pairs.T]
    assert len(found) == len(set(found))
    return sorted(found)


def _expected(coords: np.ndarray, slides: list[int], *, size: int) -> list[tuple[int, int]]:
    """All pairs, tried one by one."""
    n, found = len(coords), list[tuple[int, int]]()

    def apart(i: int, j: int) -> int:
        return max(abs(int(coords[i, 0] - coords[j, 0])), abs(int(coords[i, 1] - coords[j, 1])))

    for slide in set(slides):
        mine = [i for i in range(n) if slides[i] == slide]
        places = [i for i in mine if not any(apart(i, j) == 0 for j in mine if j < i)]
        nearest = [min(apart(i, j) for j in places if j != i) for i in places if len(places) > 1]
        reach = 1.5 * min(float(np.median(nearest)), size) if nearest else 0
        found += [(i, j) for i in mine for j in places if 0 < apart(i, j) <= reach]
    return sorted(found)


@given(PATCHES, st.sampled_from([8, 16]), st.booleans())
def test_pairs_against_a_loop(patches: list[tuple[int, int, int]], step: int, is_shifted: bool):
    """Patches of 16 px on grids with holes, with copies, of several slides; half of them off the grid."""
    slides = [slide for slide, _, _ in patches]
    coords = np.array([(step * i, step * j) for _, i, j in patches], dtype=np.int64)
    if is_shifted:
        coords[::2] += 3
    found = _found(coords, size=16, slides=np.array(slides))
    assert found == _expected(coords, slides, size=16)


@pytest.mark.parametrize("step", [256, 200, 64])
def test_a_patch_on_a_grid_has_eight_neighbours_also_with_overlap(step: int):
    pairs = _found(_grid(5, 4, step=step), size=256)
    assert sorted(j for i, j in pairs if i == 6) == [0, 1, 2, 5, 7, 10, 11, 12]
    assert sorted(j for i, j in pairs if i == 0) == [1, 5, 6]
    assert len(pairs) == 2 * (4 * 4 + 5 * 3 + 2 * 4 * 3)
    assert {(j, i) for i, j in pairs} == set(pairs)


def test_a_thinned_grid_links_only_patches_that_touch():
    """With three of four patches gone, the nearest are two steps apart."""
    assert _found(_grid(4, 4, step=64), size=32) == []


def test_patches_of_different_slides_are_never_adjacent():
    coords = np.tile(_grid(3, 1, step=32), (2, 1))
    slides = np.array([7, 7, 7, 2, 2, 2])
    assert _found(coords, size=32, slides=slides) == [
        *[(0, 1), (1, 0), (1, 2), (2, 1)],
        *[(3, 4), (4, 3), (4, 5), (5, 4)],
    ]


def test_of_copies_the_first_is_the_neighbour():
    coords = _grid(2, 1, step=32)[[0, 0, 1, 0]]
    assert _found(coords, size=32) == [(0, 2), (1, 2), (2, 0), (3, 2)]


@pytest.mark.parametrize(
    ("coords", "size"),
    [(np.zeros((4, 2), np.int64), 0), (np.zeros((4, 2), np.int64), 32), (_grid(3, 2, step=32), 0)],
)
def test_bags_without_coordinates_have_no_neighbours(coords: np.ndarray, size: int):
    assert _found(coords, size=size) == []


def test_a_bag_finds_its_neighbours_once():
    coords = _grid(40, 30, step=32)
    bag = Bag("s", "c", 0, np.zeros((1200, 2), np.float32), coords, 32)
    assert bag.neighbours is bag.neighbours
    np.testing.assert_array_equal(bag.neighbours, neighbour_pairs(coords, size_level0_px=32, slides=None))
    assert bag.take(np.array([0, 41, 1])).neighbours.shape == (2, 6)
    assert replace(bag, size_level0_px=0).neighbours.shape == (2, 0)
