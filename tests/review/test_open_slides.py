import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.pyramids import write_pyramid
from tests.support.waiting import PATIENCE_S

from hardmil.errors import SlideError
from hardmil.review import open_slides as module
from hardmil.review.open_slides import MOST_OPEN, OpenSlides


@pytest.fixture
def slides(paths: list[Path]) -> Iterator[OpenSlides]:
    with closing(OpenSlides(paths)) as slides:
        yield slides


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [write_pyramid(tmp_path / f"{i}.tif") for i in range(MOST_OPEN + 2)]


def test_a_slide_stays_open_and_the_least_used_is_closed(slides: OpenSlides):
    with slides.use(0) as first:
        pass
    with slides.use(0) as again:
        assert again is first
    for number in range(1, MOST_OPEN + 1):
        with slides.use(number):
            pass
    with pytest.raises(SlideError, match="is closed"):
        first.slide.read(0, 0, 1, 1)
    with slides.use(0) as anew:
        assert anew.slide.read(0, 0, 1, 1).shape == (1, 1, 3)
    slides.close()
    with pytest.raises(SlideError, match="is closed"):
        anew.slide.read(0, 0, 1, 1)


def test_a_slide_that_is_read_is_not_closed(slides: OpenSlides, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_OPEN", 1)
    with slides.use(0) as first:
        for number in (1, 2):
            with slides.use(number):
                pass
        assert first.slide.read(0, 0, 1, 1).shape == (1, 1, 3)


def test_a_slide_that_was_replaced_is_opened_again(slides: OpenSlides, paths: list[Path]):
    with slides.use(0) as before:
        assert before.slide.mpp == pytest.approx(0.25)
    write_pyramid(paths[0], mpp=0.5)
    with slides.use(0) as after:
        assert after.slide.mpp == pytest.approx(0.5)


def test_a_slide_that_vanished_is_an_error_that_says_so(slides: OpenSlides, paths: list[Path]):
    with slides.use(0):
        pass
    paths[0].unlink()
    with pytest.raises(SlideError, match=r"0\.tif: the slide cannot be read any more \(No such file"):
        slides.stamp(0)


def test_a_slide_without_a_path_is_an_error():
    with pytest.raises(SlideError, match="slide 0: the table of slides has no path"):
        OpenSlides([None]).stamp(0)


def test_a_file_that_is_not_a_slide_does_not_block_the_others(slides: OpenSlides, paths: list[Path]):
    paths[0].write_text("no slide")
    for _ in range(module.MOST_READING + 1):
        with pytest.raises(SlideError, match=r"0\.tif"), slides.use(0):
            pass
    with slides.use(1) as one:
        assert one.slide.width_px == 300


def test_threads_that_use_more_slides_than_stay_open_get_pixels(
    slides: OpenSlides, paths: list[Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    failures: list[Exception] = []

    def read(offset: int) -> None:
        try:
            for i in range(40):
                with slides.use((i * 3 + offset) % len(paths)) as one:
                    assert one.slide.read(0, 0, 8, 8).shape == (8, 8, 3)
        except (SlideError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert failures == []
