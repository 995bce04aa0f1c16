from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardmil.pictures.heatmap import SlideAttention
from hardmil.pictures.patch_pictures import GalleryItem
from hardmil.report import slide_drawings
from hardmil.report.slide_drawings import NO_PATH, NO_ROOM, PictureRequest, draw_slides
from hardmil.slides.reader import open_slide
from hardmil.slides.slide import Slide


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path | None]:
    rng = np.random.default_rng(0)
    found: dict[str, Path | None] = {"nowhere": None, "gone": tmp_path / "gone.png"}
    for name in ("a", "b"):
        picture = rng.integers(90, 200, (400, 640, 3)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        found[name] = tmp_path / f"{name}.png"
    return found


def wish(name: str) -> PictureRequest:
    coords = np.array([[0, 0], [320, 64], [64, 320], [600, 360], [32, 32]])
    attention = np.array([0.1, 0.5, 0.2, 0.15, 0.05])
    item = GalleryItem(name, 320, 64, 32, 0.5, 0.9, 0, 1, "out-of-fold", "ours+fmb")
    shown = SlideAttention(name, "normal", 0.9, coords, 32, attention)
    return PictureRequest(name, shown, small=True, large=True, items=[item], mined=[item])


def test_each_slide_is_opened_once_for_all_its_pictures(paths: dict[str, Path | None], monkeypatch):
    opened: list[str] = []

    def counted(path: Path) -> Slide:
        opened.append(path.stem)
        return open_slide(path)

    monkeypatch.setattr(slide_drawings, "open_slide", counted)
    found = draw_slides([wish(name) for name in ("a", "b", "gone", "nowhere")], paths=paths)
    assert opened == ["a", "b", "gone"]
    small = found["a"].small
    assert small is not None
    assert (small.width, small.height) == (360, 225)
    assert [(one.x, one.y) for one in small.key_patches] == [(320, 64), (64, 320), (600, 360), (0, 0)]
    assert found["a"].large is not None
    assert [one.surroundings for one in found["a"].mined] == [None]
    assert found["gone"].why_not == "slide gone: there is no such file; check the path"
    assert found["nowhere"].why_not == NO_PATH
    assert [one.why_not for one in found["nowhere"].items.values()] == [NO_PATH]


def test_small_pictures_end_where_the_room_ends(paths: dict[str, Path | None]):
    found = draw_slides([wish("a"), wish("b")], paths=paths, max_bytes=1)
    assert found["a"].small is not None
    assert found["b"].small is None
    assert found["b"].why_not == NO_ROOM
    assert found["b"].large is not None, "one large picture has its own place"
