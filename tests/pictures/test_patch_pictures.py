from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import tifffile

from hardmil.pictures.patch_pictures import PATCH_EDGE_PX, SURROUNDINGS_EDGE_PX, GalleryItem, draw_item
from hardmil.slides.reader import open_slide

RED, GREEN = (200, 30, 40), (40, 160, 60)
ITEM = GalleryItem("s1", 320, 96, 32, 0.03, 0.91, 2, 1, "out-of-fold", "ours+fmb-oof")


def _slide(path: Path) -> Path:
    """640 x 416 px of green, with one red patch at (320, 96)."""
    image = np.full((416, 640, 3), GREEN, dtype=np.uint8)
    image[96:128, 320:352] = RED
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64))
    return path


def _decode(png: bytes | None) -> np.ndarray:
    assert png is not None
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)


def test_the_patch_is_drawn_with_its_outline_in_the_surroundings(tmp_path: Path):
    with open_slide(_slide(tmp_path / "s1.tif")) as slide:
        picture = draw_item(ITEM, slide=slide)
    patch, around = _decode(picture.patch), _decode(picture.surroundings)
    assert picture.item == ITEM
    assert patch.shape == (PATCH_EDGE_PX, PATCH_EDGE_PX, 3)
    np.testing.assert_array_equal(patch, np.broadcast_to(RED, patch.shape))
    assert around.shape == (SURROUNDINGS_EDGE_PX, SURROUNDINGS_EDGE_PX, 3)
    np.testing.assert_array_equal(around[10, 10], GREEN)
    np.testing.assert_array_equal(around[128, 128], RED)
    # The patch is the middle fifth: 102 to 154 of 256. Outline: black, then white around it.
    is_red = (np.abs(around.astype(int) - RED).max(axis=2) < 40).nonzero()
    assert {is_red[0].min(), is_red[1].min()} <= {102, 103}
    assert {is_red[0].max(), is_red[1].max()} <= {152, 153}
    outline = [(255, 255, 255)] * 2 + [(0, 0, 0)] * 2
    np.testing.assert_array_equal(around[128, 98:102], outline)
    np.testing.assert_array_equal(around[98:102, 128], outline)


def test_at_the_corner_of_the_slide_the_outside_is_white(tmp_path: Path):
    corner = replace(ITEM, x=0, y=0)
    with open_slide(_slide(tmp_path / "s1.tif")) as slide:
        picture = draw_item(corner, slide=slide)
    around = _decode(picture.surroundings)
    np.testing.assert_array_equal(around[20, 20], (255, 255, 255))
    np.testing.assert_array_equal(around[240, 240], GREEN)
