from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from tests.support.slides import picture_slide

from hardmil.config.patches import PatchConfig
from hardmil.errors import SlideError
from hardmil.slides.grid import place_patches
from hardmil.slides.icc import to_srgb
from hardmil.slides.reader import open_slide
from hardmil.slides.reading import read_patches
from hardmil.slides.slide import Slide

RGB = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


def swapping_profile() -> bytes:
    """sRGB with the tags of the red and blue primaries swapped, which turns red into blue."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = (content.index(name) for name in (b"rXYZ", b"bXYZ"))
    content[red : red + 4], content[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(content)


def slide_with(profile: bytes | None) -> Slide:
    return picture_slide(RGB, icc_profile=profile, name="a.png")


def test_colours_are_converted_by_the_profile():
    found = to_srgb(slide_with(swapping_profile()))(RGB)
    assert np.abs(found.astype(int) - RGB[..., ::-1]).max() <= 2


def test_without_a_profile_colours_are_unchanged():
    np.testing.assert_array_equal(to_srgb(slide_with(None))(RGB), RGB)


@pytest.mark.parametrize("profile", [b"", b"no profile", swapping_profile()[:200]])
def test_broken_profile_is_named(profile: bytes):
    with pytest.raises(SlideError, match=r"a\.png: its ICC profile cannot be applied .*patches\.icc: false"):
        to_srgb(slide_with(profile))


def test_profile_of_grey_is_named():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    with pytest.raises(SlideError, match=r"ICC profile .* expected an RGB profile"):
        to_srgb(slide_with(lab))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_patches_are_converted_only_when_asked(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.full((64, 96, 3), (200, 90, 40), np.uint8)).save(path, icc_profile=swapping_profile())
    with open_slide(path) as slide:
        grid = place_patches(slide, PatchConfig(um_per_px=None, min_tissue=0))
        plain, converted = read_patches(slide, grid), read_patches(slide, grid, icc=True)
    assert len(grid) == 6
    assert np.abs(plain[5, 9, 9].astype(int) - (200, 90, 40)).max() <= 3
    assert np.abs(converted[5, 9, 9].astype(int) - (40, 90, 200)).max() <= 5


def test_the_setting_is_part_of_the_fingerprint():
    assert PatchConfig(icc=True).fingerprint() != PatchConfig().fingerprint()
