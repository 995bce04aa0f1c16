import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from tests.support.scanned_area import HEIGHT_PX, ORIGIN, TUMOUR, WIDTH_PX, write_scn
from tests.support.slides import picture_slide

from hardmil.errors import SlideError
from hardmil.geometry import Downsample
from hardmil.slides.level_source import Level
from hardmil.slides.reader import open_slide, origin_of
from hardmil.slides.resolution import Scale
from hardmil.slides.slide import Slide, check_patches_inside, picture_of_bounds

WAIT_S = 60.0


class SlowSource:
    """A grey slide of 30 x 20 px whose reads wait until `go_on` is set."""

    def __init__(self) -> None:
        self.levels = (Level(30, 20, Downsample(1.0, 1.0)), Level(15, 10, Downsample(2.0, 2.0)))
        self.scale = Scale(0.5, 0.5)
        self.icc_profile = None
        self.bounds, self.notes = None, ()
        self.has_begun, self.go_on = threading.Event(), threading.Event()
        self.n_closed = 0

    def read_level(self, level: int, *, x: int, y: int, width: int, height: int) -> np.ndarray:
        assert self.n_closed == 0
        self.has_begun.set()
        assert self.go_on.wait(WAIT_S)
        assert self.n_closed == 0
        return np.full((height, width, 3), 100 + level, np.uint8)

    def close(self) -> None:
        self.n_closed += 1


def test_slide_has_the_values_of_its_source():
    slide = Slide(Path("a.svs"), SlowSource())
    assert (slide.path, slide.width_px, slide.height_px) == (Path("a.svs"), 30, 20)
    assert (slide.mpp, slide.scale, slide.icc_profile) == (0.5, Scale(0.5, 0.5), None)
    assert slide.levels == (Level(30, 20, Downsample(1.0, 1.0)), Level(15, 10, Downsample(2.0, 2.0)))


def test_close_waits_for_reads_in_progress():
    source = SlowSource()
    slide = Slide(Path("a.svs"), source)
    with ThreadPoolExecutor(2) as pool:
        read = pool.submit(slide.read, 0, 0, 4, 3, 1)
        assert source.has_begun.wait(WAIT_S)
        closed = pool.submit(slide.close)
        assert wait([closed], timeout=0.2).not_done == {closed}
        source.go_on.set()
        assert (read.result(WAIT_S) == 101).all()
        closed.result(WAIT_S)
    assert source.n_closed == 1
    with pytest.raises(SlideError, match=r"a\.svs: is closed"):
        slide.read(0, 0, 4, 3)


def test_source_is_closed_once_and_with_the_block():
    source = SlowSource()
    with Slide(Path("a.svs"), source) as slide:
        assert source.n_closed == 0
    slide.close()
    assert source.n_closed == 1


def test_closed_slide_has_no_thumbnail():
    slide = picture_slide(np.zeros((20, 30, 3), np.uint8), name="a.png")
    slide.close()
    with pytest.raises(SlideError, match=r"a\.png: is closed"):
        slide.thumbnail(10)


def test_a_failed_read_does_not_keep_the_slide_open():
    class Damaged(SlowSource):
        def read_level(self, level: int, *, x: int, y: int, width: int, height: int) -> np.ndarray:
            raise SlideError("a.svs: cannot be read")

    source = Damaged()
    with Slide(Path("a.svs"), source) as slide, pytest.raises(SlideError, match="cannot be read"):
        slide.read(0, 0, 4, 3)
    assert source.n_closed == 1


def test_picture_of_bounds_shows_the_scanned_area_alone(tmp_path: Path):
    with open_slide(write_scn(tmp_path / "a.scn")) as slide:
        assert (slide.width_px, slide.height_px) == (4000, 6000)
        assert slide.bounds == (*ORIGIN, WIDTH_PX, HEIGHT_PX)
        assert slide.origin == ORIGIN == origin_of(slide.path)
        rgb, frame = picture_of_bounds(slide, max_edge_px=384)
    assert rgb.shape == (256, 384, 3)
    dark = np.argwhere(rgb[..., 0] < 110)
    corner = np.array([[ORIGIN[0] + TUMOUR[0], ORIGIN[1] + TUMOUR[1]]])
    assert frame.to_px(corner).tolist() == [[128, 64]]
    assert dark.min(axis=0) == pytest.approx((64, 128), abs=1)
    assert dark.max(axis=0) == pytest.approx((127, 191), abs=1)


def test_slide_without_a_stated_area_was_scanned_whole(tmp_path: Path):
    slide = picture_slide(np.zeros((20, 30, 3), np.uint8))
    assert (slide.bounds, slide.origin) == ((0, 0, 30, 20), (0, 0))
    assert origin_of(tmp_path / "not here.scn") == origin_of(None) == (0, 0)


def test_patches_outside_the_slide_are_named():
    slide = picture_slide(np.zeros((30, 50, 3), np.uint8))
    check_patches_inside(slide, np.array([[0, 0], [49, 29]]))
    for outside in ([50, 0], [0, 30], [-1, 0]):
        with pytest.raises(
            SlideError, match=rf"1 of 2 patches are outside it, first \({outside[0]}, .* 50 x 30 px"
        ):
            check_patches_inside(slide, np.array([[0, 0], outside]))
