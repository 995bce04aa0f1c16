import numpy as np
import pytest
from tests.support.slides import picture_slide

from hardmil.config.patches import PatchConfig
from hardmil.slides.grid import place_patches

WIDTH, HEIGHT = 300, 110


@pytest.fixture
def pink_field():
    pixels = np.full((HEIGHT, WIDTH, 3), (225, 150, 190), np.uint8)
    return picture_slide(pixels, mpp=0.5)


def coords(slide, **settings) -> set[tuple[int, int]]:
    grid = place_patches(slide, PatchConfig(size_px=64, **settings))
    return {(int(x), int(y)) for x, y in grid.coords}


def test_strips_at_the_edges_are_left_out_by_default(pink_field):
    assert coords(pink_field) == {(x, 0) for x in (0, 64, 128, 192)}


def test_shifted_patches_cover_the_strips(pink_field):
    found = coords(pink_field, edge="shift")
    assert found == {(x, y) for x in (0, 64, 128, 192, 236) for y in (0, 46)}


def test_shifted_patches_on_a_slide_with_overlap_and_another_resolution(pink_field):
    """A patch of 64 px at 0.75 um/px is 96 level-0 px; the step is three quarters of it."""
    found = coords(pink_field, edge="shift", overlap_px=16, um_per_px=0.75)
    assert found == {(x, y) for x in (0, 72, 144, 204) for y in (0, 14)}


def test_a_slide_smaller_than_a_patch_has_none(pink_field):
    assert coords(pink_field, edge="shift", um_per_px=1.0) == set()
