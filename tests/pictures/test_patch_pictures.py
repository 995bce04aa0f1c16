from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import tifffile

from hardmil.pictures.patch_pictures import (
    PATCH_EDGE_PX,
    SURROUNDINGS_EDGE_PX,
    GalleryItem,
    gallery_pictures,
)
from hardmil.slides.reader import open_slide
from hardmil.slides.slide import Slide

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


def test_the_patch_is_the_patch_and_its_outline_lies_around_it(tmp_path: Path):
    [picture] = gallery_pictures([ITEM], paths={"s1": _slide(tmp_path / "s1.tif")})
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
    [picture] = gallery_pictures([corner], paths={"s1": _slide(tmp_path / "s1.tif")})
    around = _decode(picture.surroundings)
    np.testing.assert_array_equal(around[20, 20], (255, 255, 255))
    np.testing.assert_array_equal(around[240, 240], GREEN)


def test_order_is_kept_and_each_slide_is_opened_once(tmp_path: Path):
    paths = {name: _slide(tmp_path / f"{name}.tif") for name in ("a", "b")}
    items = [replace(ITEM, slide_id=name, x=x) for name, x in (("b", 0), ("a", 320), ("b", 320))]
    opened: list[str] = []

    def open_and_count(path: Path) -> Slide:
        opened.append(path.stem)
        return open_slide(path)

    pictures = gallery_pictures(items, paths=paths, open_with=open_and_count)
    assert [picture.item for picture in pictures] == items
    assert opened == ["a", "b"]
    np.testing.assert_array_equal(_decode(pictures[2].patch)[0, 0], RED)
    np.testing.assert_array_equal(_decode(pictures[0].patch)[0, 0], GREEN)


def test_slides_that_are_missing_leave_their_items_without_pictures(tmp_path: Path):
    items = [ITEM, replace(ITEM, slide_id="gone"), replace(ITEM, slide_id="unknown")]
    paths = {"s1": _slide(tmp_path / "s1.tif"), "gone": tmp_path / "gone.svs", "unknown": None}
    found = gallery_pictures(items, paths=paths)
    assert [picture.patch is None for picture in found] == [False, True, True]
    assert "gone.svs" in found[1].why_not
    assert found[2].why_not == "the table has no path for this slide"
