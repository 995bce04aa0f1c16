import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardmil.errors import SlideError
from hardmil.geometry import (
    Downsample,
    Frame,
    best_level,
    grid_starts,
    interpolate_rows,
    reflect,
    size_level0_px,
)


@pytest.mark.parametrize(
    ("size_px", "um_per_px", "mpp", "expected"),
    [
        (32, 1.0, 0.5, 64),
        (32, 0.5, 0.5, 32),
        (32, 0.5, 0.25, 64),
        (224, 0.5, 0.499, 224),
        (32, 0.25, 0.5, 16),
        (27, None, None, 27),
        (27, None, 0.25, 27),
    ],
)
def test_patch_covers_its_size_in_micrometres(size_px, um_per_px, mpp, expected):
    assert size_level0_px(size_px, um_per_px=um_per_px, mpp=mpp) == expected


def test_resolution_without_mpp_is_refused():
    with pytest.raises(SlideError, match=r"patches at 0\.5 um/px need the slide's micrometres per pixel"):
        size_level0_px(32, um_per_px=0.5, mpp=None)


def test_mpp_of_a_screen_is_refused():
    with pytest.raises(SlideError, match=r"less than one pixel at 352\.8 um/px; check the slide's mpp"):
        size_level0_px(32, um_per_px=0.5, mpp=352.8)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(0.5, 0), (1.0, 0), (1.9, 0), (2.0, 1), (3.99, 2), (4.0, 2), (15.0, 2), (99.0, 3)],
)
def test_best_level_is_the_coarsest_that_is_fine_enough(wanted, expected):
    assert best_level([1.0, 2.0, 4.0001, 16.0], wanted=wanted) == expected


def test_patches_start_where_they_still_fit():
    assert grid_starts(500, size_px=27, step_px=27).tolist() == list(range(0, 486, 27))[:18]
    assert grid_starts(54, size_px=27, step_px=27).tolist() == [0, 27]
    assert grid_starts(26, size_px=27, step_px=27).tolist() == []
    assert grid_starts(500, size_px=64, step_px=48).tolist() == [0, 48, 96, 144, 192, 240, 288, 336, 384, 432]


def test_one_more_patch_covers_the_end():
    assert grid_starts(500, size_px=224, step_px=224, cover_end=True).tolist() == [0, 224, 276]
    assert grid_starts(448, size_px=224, step_px=224, cover_end=True).tolist() == [0, 224]
    assert grid_starts(224, size_px=224, step_px=224, cover_end=True).tolist() == [0]
    assert grid_starts(223, size_px=224, step_px=224, cover_end=True).tolist() == []
    assert grid_starts(500, size_px=64, step_px=48, cover_end=True).tolist()[-2:] == [432, 436]


@given(extent=st.integers(0, 400), size=st.integers(1, 60), step=st.integers(1, 60))
def test_patches_that_cover_the_end_leave_no_strip(extent, size, step):
    starts = grid_starts(extent, size_px=size, step_px=min(step, size), cover_end=True)
    covered = np.zeros(extent, dtype=bool)
    for start in starts:
        covered[start : start + size] = True
    assert covered.all() == (extent >= size or extent == 0)
    assert len(starts) == 0 or starts[-1] + size <= extent


def test_rows_are_interpolated_and_held_at_the_ends():
    table = np.array([[0.0, 10.0], [2.0, 20.0], [6.0, 0.0]])
    at = np.array([-3.0, 0.0, 0.25, 1.5, 2.0, 9.0])
    expected = [[0, 10], [0, 10], [0.5, 12.5], [4, 10], [6, 0], [6, 0]]
    np.testing.assert_allclose(interpolate_rows(table, at), expected)


@given(length=st.integers(1, 9), left=st.integers(0, 40), right=st.integers(0, 40))
def test_reflect_is_numpys_reflect(length, left, right):
    padded = np.pad(np.arange(length), (left, right), mode="reflect")
    np.testing.assert_array_equal(reflect(np.arange(-left, length + right), length=length), padded)


def test_a_frame_has_an_origin_and_one_factor_an_axis():
    frame = Frame(1000, 2000, Downsample.between((190, 4000), (19, 200)))
    assert frame.downsample == (10, 20)
    np.testing.assert_allclose(frame.to_px(np.array([[1000, 2000], [1050, 2100]])), [[0, 0], [5, 5]])


def test_squares_have_at_least_one_px_and_none_outside_the_picture():
    frame = Frame(100, 100, Downsample(10.0, 20.0))
    corners = np.array([[100, 100], [140, 180], [0, 0], [0, 140]])
    found = frame.squares_px(corners, size_level0_px=40)
    assert found[:2].tolist() == [[0, 0, 4, 2], [4, 4, 8, 6]]
    assert found[2:, 2].tolist() == [0, 0], "left of the picture"
    assert frame.squares_px(corners[:1], size_level0_px=2).tolist() == [[0, 0, 1, 1]]
