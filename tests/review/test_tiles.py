import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.support.pyramids import RGB, write_pyramid

from hardmil.geometry import Rectangle
from hardmil.review.tiles import TILE_PX, Pyramid, jpeg_bytes, read_area
from hardmil.slides.reader import open_slide

EDGES = st.integers(1, 300_000)


@given(EDGES, EDGES)
def test_tiles_of_the_finest_level_cover_the_slide_without_overlap(width: int, height: int):
    pyramid = Pyramid(width, height)
    columns, rows = pyramid.grid(pyramid.max_level)
    areas = [pyramid.area(pyramid.max_level, column=column, row=0)[0] for column in range(columns)]
    assert areas[0].x == 0
    assert [one.x + one.width for one in areas] == [*(one.x for one in areas[1:]), width]
    last = pyramid.area(pyramid.max_level, column=0, row=rows - 1)[0]
    assert last.y + last.height == height
    assert last.height >= 1


@given(EDGES, EDGES, st.data())
def test_a_tile_is_at_most_of_the_size_of_a_tile(width: int, height: int, data: st.DataObject):
    pyramid = Pyramid(width, height)
    level = data.draw(st.integers(pyramid.min_level, pyramid.max_level))
    columns, rows = pyramid.grid(level)
    column, row = data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1))
    assert pyramid.has(level, column=column, row=row)
    area, (tile_width, tile_height) = pyramid.area(level, column=column, row=row)
    assert 1 <= tile_width <= TILE_PX
    assert 1 <= tile_height <= TILE_PX
    assert area.x + area.width <= width
    assert area.y + area.height <= height


@given(EDGES, EDGES)
def test_the_coarsest_level_is_one_tile_of_the_whole_slide(width: int, height: int):
    pyramid = Pyramid(width, height)
    assert pyramid.grid(pyramid.min_level) == (1, 1)
    assert pyramid.area(pyramid.min_level, column=0, row=0)[0] == Rectangle(0, 0, width, height)


@pytest.mark.parametrize(
    ("level", "column", "row"),
    [(8, 0, 0), (13, 0, 0), (12, 8, 0), (12, 0, 6), (12, -1, 0), (10**8, 0, 0), (-1, 0, 0)],
)
def test_there_is_no_tile_outside(level: int, column: int, row: int):
    pyramid = Pyramid(4000, 3000)
    assert (pyramid.min_level, pyramid.max_level) == (9, 12)
    assert not pyramid.has(level, column=column, row=row)


def test_a_tile_shows_the_pixels_of_its_area(tmp_path: Path):
    with open_slide(write_pyramid(tmp_path / "slide.tif")) as slide:
        assert np.array_equal(
            read_area(slide, Rectangle(140, 90, 40, 30), size_px=(40, 30)), RGB[90:120, 140:180]
        )
        half = read_area(slide, Rectangle(0, 0, 300, 200), size_px=(150, 100))
        assert np.array_equal(half, RGB[::2, ::2])


def test_an_enlarged_area_keeps_its_colours_and_outside_is_white(tmp_path: Path):
    with open_slide(write_pyramid(tmp_path / "slide.tif")) as slide:
        large = read_area(slide, Rectangle(10, 10, 20, 20), size_px=(100, 100))
        assert large.shape == (100, 100, 3)
        assert np.array_equal(np.unique(large.reshape(-1, 3), axis=0), [[200, 60, 120]])
        corner = read_area(slide, Rectangle(-20, -20, 40, 40), size_px=(40, 40))
        assert (corner[:20, :20] == 255).all()
        assert np.array_equal(corner[25, 25], [200, 60, 120])


def test_a_jpeg_keeps_the_order_of_colours():
    image = np.full((32, 48, 3), (200, 60, 120), np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(jpeg_bytes(image))))
    assert decoded.shape == (32, 48, 3)
    assert np.abs(decoded.astype(int) - image).max() <= 3
