import threading
from contextlib import closing, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.slides import picture_slide

from hardmil.config.patches import PatchConfig
from hardmil.errors import SlideError
from hardmil.slides import pictures
from hardmil.slides.grid import place_patches
from hardmil.slides.picture_source import PictureSource
from hardmil.slides.pictures import decode_picture, over_white
from hardmil.slides.reader import open_slide, open_source
from hardmil.slides.resolution import plausible_mpp
from hardmil.slides.tiff_source import TiffSource

RGB = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)


@pytest.mark.parametrize("name", ["image.png", "image.bmp", "image.tif"])
def test_lossless_picture_is_read_unchanged(tmp_path: Path, name: str):
    Image.fromarray(RGB).save(tmp_path / name)
    with closing(open_source(tmp_path / name)) as source:
        assert isinstance(source, TiffSource if name.endswith("tif") else PictureSource)
    with open_slide(tmp_path / name) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 70, 40), RGB)
        np.testing.assert_array_equal(slide.thumbnail(70), RGB)


def test_jpeg_is_read_with_small_differences(tmp_path: Path):
    smooth = np.repeat(np.linspace(0, 255, 70).astype(np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    Image.fromarray(smooth).save(tmp_path / "image.jpg", quality=95)
    assert np.abs(decode_picture(tmp_path / "image.jpg").rgb.astype(int) - smooth).max() < 6


@given(x=st.integers(-50, 80), y=st.integers(-50, 50), width=st.integers(1, 99), height=st.integers(1, 99))
def test_outside_a_picture_is_white(x: int, y: int, width: int, height: int):
    slide = picture_slide(RGB, name="image.png")
    expected = np.full((height, width, 3), 255, np.uint8)
    for row in range(height):
        for column in range(width):
            if 0 <= y + row < 40 and 0 <= x + column < 70:
                expected[row, column] = RGB[y + row, x + column]
    np.testing.assert_array_equal(slide.read(x, y, width, height), expected)


def test_closed_picture_is_not_read():
    slide = picture_slide(RGB, name="image.png")
    slide.close()
    slide.close()
    with pytest.raises(SlideError, match=r"image\.png: is closed; open it again"):
        slide.read(0, 0, 5, 5)


def test_transparent_parts_are_white(tmp_path: Path):
    rgba = np.dstack([RGB, np.full((40, 70), 255, np.uint8)])
    rgba[:, :30, 3] = 0
    rgba[:, 30, 3] = 51
    Image.fromarray(rgba).save(tmp_path / "image.png")
    rgb = decode_picture(tmp_path / "image.png").rgb
    assert (rgb[:, :30] == 255).all()
    np.testing.assert_array_equal(rgb[:, 31:], RGB[:, 31:])
    np.testing.assert_array_equal(rgb[:, 30], np.rint(0.2 * RGB[:, 30] + 0.8 * 255))


def test_opaque_picture_over_white_is_unchanged():
    rgba = np.dstack([RGB, np.full((40, 70), 255, np.uint8)])
    np.testing.assert_array_equal(over_white(rgba), RGB)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_other_kinds_of_picture_become_rgb(tmp_path: Path, mode: str):
    image = Image.new("RGB", (9, 5), (255, 255, 255)).convert(mode)
    image.save(tmp_path / "image.tif")
    np.testing.assert_array_equal(decode_picture(tmp_path / "image.tif").rgb, np.full((5, 9, 3), 255))


def test_more_than_8_bits_are_refused(tmp_path: Path):
    Image.fromarray(np.zeros((5, 9), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(
        SlideError, match=r"deep\.png: is a picture of mode I;16; expected 8 bits per channel"
    ):
        decode_picture(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((5, 9, 3), np.float32), photometric="rgb")
    with pytest.raises(SlideError, match=r"deep\.tif: holds float32 pixels \(32 bits a channel\); expected"):
        open_slide(tmp_path / "deep.tif")


def test_tiff_that_only_tifffile_decodes(tmp_path: Path):
    tifffile.imwrite(tmp_path / "png.tif", RGB, photometric="rgb", compression="png")
    with open_slide(tmp_path / "png.tif") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 70, 40), RGB)


def test_only_a_plausible_resolution_is_used(tmp_path: Path):
    for name, dpi in (("scan.png", 50_800), ("screen.png", 72)):
        Image.fromarray(RGB).save(tmp_path / name, dpi=(dpi, dpi))
    assert decode_picture(tmp_path / "scan.png").scale.mpp == pytest.approx(0.5, abs=1e-3)
    assert decode_picture(tmp_path / "screen.png").scale.mpp is None


def test_plausible_resolutions_are_averaged():
    assert plausible_mpp([0.2, 0.3]) == pytest.approx(0.25)
    assert plausible_mpp([0.2, 353.0]) == pytest.approx(0.2)
    assert plausible_mpp([0.0, 353.0]) is None
    assert plausible_mpp([]) is None


def test_picture_beyond_the_limit_of_pillow_is_read_and_the_limit_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Image.fromarray(RGB).save(tmp_path / "image.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(decode_picture(tmp_path / "image.png").rgb, RGB)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_many_threads_restore_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(RGB).save(tmp_path / "image.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    threads = [threading.Thread(target=decode_picture, args=(tmp_path / "image.png",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == 100


def test_picture_beyond_our_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(RGB).save(tmp_path / "image.png")
    monkeypatch.setattr(pictures, "MAX_PICTURE_PX", 2_000)
    with pytest.raises(
        SlideError, match=r"70 x 40 px, 2,800 px, .*; expected at most 2,000 px; .*vips tiffsave"
    ):
        decode_picture(tmp_path / "image.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_truncated_picture_is_named(tmp_path: Path, suffix: str, share: float):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(RGB).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(
        SlideError, match=rf"cut\.{suffix}: (is not an image|is incomplete|cannot be decoded)"
    ):
        open_slide(path)


def test_truncated_tiff_that_only_tifffile_decodes_is_named(tmp_path: Path):
    """Without the check, tifffile would fill the missing rows with zeros."""
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", compression="png", rowsperstrip=8)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(SlideError, match=r"cut\.tif: is incomplete \(its pixels end too early\)"):
        open_slide(path)


def test_tiff_with_tiles_far_larger_than_its_picture_is_refused(tmp_path: Path):
    """A decoder allocates a whole tile."""
    path = tmp_path / "wide.tif"
    tifffile.imwrite(
        path, np.zeros((32, 32, 3), np.uint8), tile=(32, 32), compression="jpeg", photometric="rgb"
    )
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["TileWidth"].overwrite(16_776_960)
    for read in (open_slide, decode_picture):
        with pytest.raises(SlideError, match=r"wide\.tif: has tiles of 16776960 x 32 px"):
            read(path)


@settings(max_examples=150)
@given(
    suffix=st.sampled_from(["png", "bmp", "tif"]),
    place=st.floats(0, 1),
    value=st.integers(0, 255),
)
def test_damaged_picture_is_read_or_raises_a_slide_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, place: float, value: int
):
    path = tmp_path_factory.mktemp("damaged") / f"image.{suffix}"
    Image.fromarray(RGB).save(path)
    content = bytearray(path.read_bytes())
    content[int(place * 200) % len(content)] = value
    path.write_bytes(content)
    with suppress(SlideError):
        rgb = decode_picture(path).rgb
        assert rgb.dtype == np.uint8
        assert rgb.size > 0


def test_the_transparent_colour_of_a_png_is_white(tmp_path: Path):
    """The tRNS chunk names one colour of RGB and of grey pictures."""
    rgb = np.full((20, 30, 3), 20, np.uint8)
    rgb[:10] = (200, 90, 90)
    Image.fromarray(rgb).save(tmp_path / "rgb.png", transparency=(20, 20, 20))
    Image.fromarray(rgb[..., 0]).save(tmp_path / "grey.png", transparency=20)
    Image.fromarray(rgb[..., 0] > 100).save(tmp_path / "bits.png", transparency=0)
    for name, colour in (("rgb.png", (200, 90, 90)), ("grey.png", (200,) * 3), ("bits.png", (255,) * 3)):
        found = decode_picture(tmp_path / name).rgb
        assert found[0, 0].tolist() == list(colour)
        assert (found[10:] == 255).all()


def test_picture_of_sixteen_bits_is_refused(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 30, 3), 3000, np.uint16))
    with pytest.raises(SlideError, match=r"a\.png: is a picture with 16 bits per channel; expected 8"):
        decode_picture(tmp_path / "a.png")


def test_pixels_of_a_picture_that_are_not_square_are_refused(tmp_path: Path):
    Image.new("RGB", (60, 40), "white").save(tmp_path / "wide.png", dpi=(25_400, 50_800))
    with open_slide(tmp_path / "wide.png") as slide:
        assert slide.mpp is None
        with pytest.raises(SlideError, match=r"wide\.png: its pixels are not square \(1 x 0\.5\d* um\)"):
            place_patches(slide, PatchConfig())


def test_the_resolution_of_a_screen_may_differ_along_x_and_y(tmp_path: Path):
    Image.new("RGB", (60, 40), "white").save(tmp_path / "screen.png", dpi=(72, 96))
    with open_slide(tmp_path / "screen.png") as slide:
        assert not slide.scale.is_oblong
        assert len(place_patches(slide, PatchConfig(), mpp=0.5)) == 0


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
def test_strips_are_the_whole_picture(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.tif"
    Image.fromarray(RGB).convert(mode).save(path)
    whole = decode_picture(path).rgb
    monkeypatch.setattr(pictures, "_STRIP_ROWS", 7)
    np.testing.assert_array_equal(decode_picture(path).rgb, whole)


def test_a_progressive_picture_has_a_lower_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(RGB).save(tmp_path / "a.jpg")
    Image.fromarray(RGB).save(tmp_path / "b.jpg", progressive=True)
    monkeypatch.setitem(pictures._PX_OF, "progressive", 2_000)
    assert decode_picture(tmp_path / "a.jpg").rgb.shape == RGB.shape
    with pytest.raises(SlideError, match=r"b\.jpg: is a picture of 70 x 40 px, 2,800 px, .*at most 2,000 px"):
        decode_picture(tmp_path / "b.jpg")
