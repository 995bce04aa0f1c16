from pathlib import Path

import numpy as np
import pytest
import tifffile

from hardmil.errors import SlideError
from hardmil.slides import openslide_source, pictures, tiff_tiles
from hardmil.slides import slide as slide_module
from hardmil.slides.openslide_source import OpenSlideSource
from hardmil.slides.reader import open_slide
from hardmil.slides.tiff_tiles import TiledPage

RGB = np.zeros((200, 300, 3), np.uint8)
RGB[:100, :150], RGB[:100, 150:] = (200, 60, 60), (60, 200, 60)
RGB[100:, :150], RGB[100:, 150:] = (60, 60, 200), (200, 200, 60)


@pytest.mark.parametrize("tile", [None, (64, 64)])
@pytest.mark.parametrize(("kind", "alpha", "white_share"), [(0, 128, 0), (1, 200, 55 / 255), (2, 204, 0.2)])
def test_a_fourth_channel_is_used_as_the_file_says(
    tmp_path: Path, tile, kind: int, alpha: int, white_share: float
):
    pixels = (RGB * (alpha / 255)).astype(np.uint8) if kind == 1 else RGB
    fourth = np.full((*RGB.shape[:2], 1), alpha, np.uint8)
    how = {"photometric": "rgb", "extrasamples": [kind], "tile": tile}
    tifffile.imwrite(tmp_path / "rgba.tif", np.concatenate([pixels, fourth], axis=2), **how)
    with open_slide(tmp_path / "rgba.tif") as slide:
        found = slide.read(0, 0, 300, 200)
    np.testing.assert_allclose(found, RGB * (1 - white_share) + 255 * white_share, atol=1)


def test_a_large_tile_is_decoded_once_for_all_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tifffile.imwrite(tmp_path / "one.tif", RGB, photometric="rgb", tile=(208, 304), compression="zlib")
    n_decoded: list[int] = []
    decode = TiledPage._decoded

    def counted(page: TiledPage, index: int) -> np.ndarray:
        n_decoded.append(index)
        return decode(page, index)

    monkeypatch.setattr(TiledPage, "_decoded", counted)
    monkeypatch.setattr(slide_module, "STRIP_PX", 10_000)
    with open_slide(tmp_path / "one.tif") as slide:
        small = slide.thumbnail(300)
    assert len(n_decoded) > 4
    n_decoded.clear()
    monkeypatch.setattr(tiff_tiles, "LARGE_TILE_PX", 10_000)
    with open_slide(tmp_path / "one.tif") as slide:
        kept = slide.thumbnail(300)
        changed = slide.read(0, 0, 304, 208)
        changed[:] = 0
        np.testing.assert_array_equal(slide.thumbnail(300), small)
    assert n_decoded == [0]
    np.testing.assert_array_equal(kept, small)


def test_a_tile_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tifffile.imwrite(tmp_path / "one.tif", RGB, photometric="rgb", tile=(208, 304), compression="zlib")
    monkeypatch.setattr(tiff_tiles, "MAX_PICTURE_PX", 60_000)
    monkeypatch.setattr(openslide_source, "CACHE_BYTES", 200_000)
    with pytest.raises(SlideError, match=r"level 0 has tiles of 304 x 208 px; expected at most 50,000 px"):
        OpenSlideSource(tmp_path / "one.tif")
    monkeypatch.setattr(pictures, "MAX_PICTURE_PX", 50_000)
    with pytest.raises(
        SlideError, match=r"one\.tif: is a picture of 300 x 200 px, 60,000 px, which is decoded"
    ):
        open_slide(tmp_path / "one.tif")


def test_a_file_of_very_many_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with tifffile.TiffWriter(tmp_path / "many.tif") as file:
        for _ in range(5):
            file.write(RGB[:16, :16], photometric="rgb")
    monkeypatch.setattr(tiff_tiles, "MAX_PAGES", 4)
    with pytest.raises(SlideError, match=r"many\.tif: .*it has 5 images, more than 4"):
        open_slide(tmp_path / "many.tif")
