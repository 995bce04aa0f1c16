import io
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.support.pyramids import write_pyramid

from hardmil.errors import SlideError
from hardmil.geometry import Rectangle
from hardmil.review.slide_pictures import PATCH_PX, SURROUNDINGS_PX, ScaleBar, SlidePictures
from hardmil.review.tiles import Pyramid

SQUARE = Rectangle(100, 60, 40, 40)


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_pyramid(tmp_path / "slide.tif", mpp=0.5)


@pytest.fixture
def pictures(slide: Path) -> Iterator[SlidePictures]:
    with closing(SlidePictures([slide])) as pictures:
        yield pictures


def test_a_patch_and_its_surroundings(pictures: SlidePictures):
    patch = decoded(pictures.patch(0, square=SQUARE))
    assert patch.shape == (PATCH_PX, PATCH_PX, 3)
    assert np.abs(patch[10, 10] - (200, 60, 120)).max() < 8
    around = decoded(pictures.surroundings(0, square=SQUARE))
    assert around.shape == (SURROUNDINGS_PX, SURROUNDINGS_PX, 3)
    # 160 level-0 px wide, from (40, 0): in its lower right corner is the other colour.
    assert np.abs(around[-10, -10] - (90, 40, 130)).max() < 8


def test_the_place_of_a_patch_and_its_scale_bars(pictures: SlidePictures):
    place = pictures.place(0, square=SQUARE, mpp=None)
    assert (place.left, place.top) == (100 / 300, 60 / 200)
    assert (place.width, place.height) == (40 / 300, 40 / 200)
    # 40 px at 0.5 um/px are 20 um, the surroundings 80 um.
    assert place.patch_bar == ScaleBar(5 / 20, "5 µm")
    assert place.surroundings_bar == ScaleBar(20 / 80, "20 µm")
    other = pictures.place(0, square=SQUARE, mpp=0.25)
    assert other.patch_bar == ScaleBar(2 / 10, "2 µm")


def test_without_a_resolution_there_is_no_scale_bar(tmp_path: Path):
    path = write_pyramid(tmp_path / "slide.tif", mpp=None)
    with closing(SlidePictures([path])) as pictures:
        place = pictures.place(0, square=SQUARE, mpp=None)
    assert place.patch_bar is None
    assert place.surroundings_bar is None


def test_a_tile_is_made_once(pictures: SlidePictures, monkeypatch: pytest.MonkeyPatch):
    level = Pyramid(300, 200).max_level
    first = pictures.tile(0, level=level, column=0, row=0)
    assert first is not None
    assert decoded(first).shape == (200, 300, 3)
    monkeypatch.setattr("hardmil.review.slide_pictures.read_area", None)
    assert pictures.tile(0, level=level, column=0, row=0) == first
    assert pictures.tile(0, level=level, column=1, row=0) is None


def test_a_slide_that_vanished_is_not_shown_from_memory(pictures: SlidePictures, slide: Path):
    pictures.thumbnail(0)
    slide.unlink()
    with pytest.raises(SlideError, match="cannot be read any more"):
        pictures.thumbnail(0)


def test_label_and_macro_are_in_no_picture(tmp_path: Path):
    """A slide with a label and a macro image of one colour that no tissue has, as Aperio writes them."""
    path, tissue = tmp_path / "slide.svs", np.full((512, 768, 3), (230, 180, 210), np.uint8)
    label = np.full((80, 60, 3), (0, 255, 0), np.uint8)
    with tifffile.TiffWriter(path) as tiff:
        about = "Aperio Image Library v12\r\n768x512|AppMag = 20|MPP = 0.5"
        tiff.write(tissue, tile=(256, 256), photometric="rgb", description=about, metadata=None)
        tiff.write(tissue[::4, ::4], photometric="rgb", description=about, metadata=None)
        for kind in ("label", "macro"):
            description = f"Aperio Image Library v12\r\n{kind} 60x80"
            tiff.write(label, photometric="rgb", subfiletype=1, description=description, metadata=None)
    with closing(SlidePictures([path])) as pictures:
        pyramid = pictures.pyramid(0)
        assert (pyramid.width_px, pyramid.height_px) == (768, 512)
        shown = [pictures.thumbnail(0), pictures.surroundings(0, square=SQUARE)]
        for level, column in product(range(pyramid.max_level + 3), range(3)):
            tiles = [pictures.tile(0, level=level, column=column, row=row) for row in range(3)]
            shown += [tile for tile in tiles if tile is not None]
    assert len(shown) > 4
    assert not any((decoded(one)[..., 0] < 100).any() for one in shown)
