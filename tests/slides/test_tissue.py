from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hardmil.slides.phantom_tissue import smooth_noise
from hardmil.slides.reader import open_slide
from hardmil.slides.tissue import otsu, segment_rgb, segment_tissue

WHITE, PINK, PURPLE, GREY = (244, 243, 245), (225, 150, 190), (110, 70, 150), (120, 120, 120)


def island(colour: tuple[int, int, int], *, noise: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image of glass with one island of a colour, and where it is."""
    rng = np.random.default_rng(0)
    is_island = np.zeros((90, 130), bool)
    is_island[20:60, 30:100] = True
    rgb = np.where(is_island[..., None], colour, WHITE) + rng.normal(0, noise, (90, 130, 3))
    return rgb.round().clip(0, 255).astype(np.uint8), is_island


def otsu_by_hand(channel: np.ndarray) -> int:
    """The threshold with the largest variance between the two classes; the first of equals."""
    values = channel.ravel().astype(float)
    best, best_variance = 0, 0.0
    for threshold in range(256):
        low, high = values[values <= threshold], values[values > threshold]
        if len(low) and len(high):
            variance = len(low) * len(high) * (low.mean() - high.mean()) ** 2 / len(values) ** 2
            if variance > best_variance * (1 + 1e-9):
                best, best_variance = threshold, variance
    return best


def test_otsu_is_otsus():
    rgb, _ = island(PINK, noise=9)
    for channel in range(3):
        assert otsu(np.ascontiguousarray(rgb[..., channel])) == otsu_by_hand(rgb[..., channel])


@pytest.mark.parametrize("colour", [PINK, PURPLE, (236, 216, 226)], ids=["pink", "purple", "pale eosin"])
def test_stained_tissue_is_found(colour: tuple[int, int, int]):
    rgb, is_island = island(colour)
    assert (segment_rgb(rgb).is_tissue == is_island).mean() > 0.99


def test_rules_combine_saturation_and_value():
    rgb, is_island = island(PINK, noise=0)
    rgb[70:80, 30:100] = GREY
    is_grey = np.zeros_like(is_island)
    is_grey[70:80, 30:100] = True
    found = {rule: segment_rgb(rgb, rule=rule).is_tissue for rule in ("s", "v", "s-or-v", "s-and-v")}
    np.testing.assert_array_equal(found["s"], is_island)
    np.testing.assert_array_equal(found["v"], is_grey)
    np.testing.assert_array_equal(found["s-or-v"], is_island | is_grey)
    assert not found["s-and-v"].any()


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("colour", [(255, 255, 255), WHITE, PINK])
def test_slide_without_contrast_has_no_tissue(colour: tuple[int, int, int], noise: float):
    """Otsu parts any channel in two, here noise; that must not become tissue."""
    rgb = np.full((90, 130, 3), colour) + np.random.default_rng(1).normal(0, noise, (90, 130, 3))
    mask = segment_rgb(rgb.round().clip(0, 255).astype(np.uint8), rule="s-or-v")
    assert not mask.is_tissue.any()


def test_uneven_light_on_glass_is_no_tissue():
    shade = 5 * smooth_noise(np.random.default_rng(2), shape=(300, 400), scale_px=150)
    rgb = np.repeat((240 + shade).round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    assert not segment_rgb(rgb).is_tissue.any()


def test_thresholds_are_reported_in_opencvs_units():
    rgb, _ = island(PINK, noise=6)
    mask = segment_rgb(rgb)
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    reported = [mask.otsu_hue, mask.otsu_saturation, mask.otsu_value]
    assert reported == [otsu_by_hand(hsv[..., channel]) for channel in range(3)]


def test_small_slide_is_segmented_pixel_by_pixel(phantom_slide: Path):
    with open_slide(phantom_slide) as slide:
        mask = segment_tissue(slide)
        expected = segment_rgb(slide.read(0, 0, slide.width_px, slide.height_px)).is_tissue
    assert mask.downsample == 1
    np.testing.assert_array_equal(mask.is_tissue, expected)
    assert 0.4 < mask.is_tissue.mean() < 0.9


def test_large_slide_is_segmented_on_a_thumbnail(tmp_path: Path):
    rgb = np.full((600, 4096, 3), WHITE, np.uint8)
    rgb[100:500, 1000:3000] = PINK
    path = tmp_path / "wide.png"
    Image.fromarray(rgb).save(path)
    with open_slide(path) as slide:
        mask = segment_tissue(slide)
    assert mask.downsample == 2
    expected = np.zeros((300, 2048), bool)
    expected[50:250, 500:1500] = True
    np.testing.assert_array_equal(mask.is_tissue, expected)


def test_blank_slide_is_no_error(tmp_path: Path):
    path = tmp_path / "blank.png"
    Image.new("RGB", (70, 50), "white").save(path)
    with open_slide(path) as slide:
        assert not segment_tissue(slide).is_tissue.any()
