from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from tests.support.slides import picture_slide

from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.errors import SlideError
from hardmil.files.geojson import Region, square
from hardmil.phantom.tissue import smooth_noise
from hardmil.slides.grid import place_patches
from hardmil.slides.outlines import outlines
from hardmil.slides.reader import open_slide
from hardmil.slides.slide import Slide
from hardmil.slides.tissue import TissueMask, TissueRule, otsu, segment_strips, segment_tissue

WHITE, PINK, PURPLE, GREY = (244, 243, 245), (225, 150, 190), (110, 70, 150), (120, 120, 120)
UNFILTERED = PatchConfig(tissue_rule="s-or-v", tissue=TissueConfig(min_area_um2=0, max_hole_um2=0))
masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def with_settings(**settings: object) -> PatchConfig:
    return PatchConfig(tissue=TissueConfig(**settings))


def pink(is_pink: np.ndarray, *, mpp: float | None) -> Slide:
    """A slide that is pink in the mask and glass elsewhere."""
    rgb = np.where(is_pink[..., None], PINK, WHITE).astype(np.uint8)
    return picture_slide(rgb, mpp=mpp, name="pink.png")


def segment(rgb: np.ndarray, *, rule: TissueRule = "s-or-v") -> TissueMask:
    """The tissue of an image given as one strip."""
    return segment_strips([rgb], rule=rule, downsample=1.0)


def island(colour: tuple[int, int, int], *, noise: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image of glass with one coloured island, and the mask of the island."""
    rng = np.random.default_rng(0)
    is_island = np.zeros((90, 130), bool)
    is_island[20:60, 30:100] = True
    rgb = np.where(is_island[..., None], colour, WHITE) + rng.normal(0, noise, (90, 130, 3))
    return rgb.round().clip(0, 255).astype(np.uint8), is_island


def otsu_by_hand(channel: np.ndarray) -> int:
    """The threshold with the largest variance between the two classes; of equal ones, the first."""
    values = channel.ravel().astype(float)
    best, best_variance = 0, 0.0
    for threshold in range(256):
        low, high = values[values <= threshold], values[values > threshold]
        if len(low) and len(high):
            variance = len(low) * len(high) * (low.mean() - high.mean()) ** 2 / len(values) ** 2
            if variance > best_variance * (1 + 1e-9):
                best, best_variance = threshold, variance
    return best


def test_otsu_equals_a_plain_loop():
    rgb, _ = island(PINK, noise=9)
    for channel in range(3):
        assert otsu(np.ascontiguousarray(rgb[..., channel])) == otsu_by_hand(rgb[..., channel])


@pytest.mark.parametrize("colour", [PINK, PURPLE, (236, 216, 226)], ids=["pink", "purple", "pale eosin"])
def test_stained_tissue_is_found(colour: tuple[int, int, int]):
    rgb, is_island = island(colour)
    assert (segment(rgb).is_tissue == is_island).mean() > 0.99


@pytest.mark.parametrize("colour", [PINK, PURPLE, (236, 216, 226), GREY])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.97, 1.0])
def test_what_absorbs_light_is_tissue_however_much_of_it_there_is(colour: tuple[int, int, int], share: float):
    is_tissue = np.zeros((100, 100), bool)
    is_tissue[: round(share * 100)] = True
    rgb = np.where(is_tissue[..., None], colour, WHITE) + np.random.default_rng(0).normal(0, 2, (100, 100, 3))
    rgb = rgb.round().clip(0, 255).astype(np.uint8)
    # An image that is all pale tissue has no glass to compare with; a stain remains a stain.
    if share < 1 or min(colour) < 200:
        assert (segment(rgb, rule="absorption").is_tissue == is_tissue).mean() > 0.99


def test_black_fill_is_neither_tissue_nor_glass():
    """As MRXS and NDPI have it where nothing was scanned; the glass is a small part of the image."""
    rgb, is_island = island(PINK)
    filled = np.zeros((400, 400, 3), np.uint8)
    filled[50:140, 50:180] = rgb
    expected = np.zeros((400, 400), bool)
    expected[50:140, 50:180] = is_island
    np.testing.assert_array_equal(segment(filled, rule="absorption").is_tissue, expected)


def test_rules_combine_saturation_and_value():
    rgb, is_island = island(PINK, noise=0)
    rgb[70:80, 30:100] = GREY
    is_grey = np.zeros_like(is_island)
    is_grey[70:80, 30:100] = True
    found = {rule: segment(rgb, rule=rule).is_tissue for rule in ("s", "v", "s-or-v", "s-and-v")}
    np.testing.assert_array_equal(found["s"], is_island)
    np.testing.assert_array_equal(found["v"], is_grey)
    np.testing.assert_array_equal(found["s-or-v"], is_island | is_grey)
    assert not found["s-and-v"].any()


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("colour", [(255, 255, 255), WHITE, PINK])
def test_slide_without_contrast_has_no_tissue(colour: tuple[int, int, int], noise: float):
    """Otsu splits any channel in two, here noise, which must not become tissue."""
    rgb = np.full((90, 130, 3), colour) + np.random.default_rng(1).normal(0, noise, (90, 130, 3))
    mask = segment(rgb.round().clip(0, 255).astype(np.uint8))
    assert not mask.is_tissue.any()
    if colour != PINK:
        absorbing = segment(rgb.round().clip(0, 255).astype(np.uint8), rule="absorption")
        # Single pixels of noise are no tissue: a patch needs a quarter of its pixels.
        assert absorbing.is_tissue.mean() < 0.01


def test_uneven_light_on_glass_is_not_tissue():
    shade = 5 * smooth_noise(np.random.default_rng(2), shape=(300, 400), scale_px=150)
    rgb = np.repeat((240 + shade).round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    assert not segment(rgb).is_tissue.any()
    assert not segment(rgb, rule="absorption").is_tissue.any()


def test_thresholds_are_reported_in_opencvs_units():
    rgb, _ = island(PINK, noise=6)
    mask = segment(rgb)
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    reported = [mask.otsu_hue, mask.otsu_saturation, mask.otsu_value]
    assert reported == [otsu_by_hand(hsv[..., channel]) for channel in range(3)]


def test_small_slide_is_segmented_pixel_by_pixel(phantom_slide: Path):
    with open_slide(phantom_slide) as slide:
        mask = segment_tissue(slide, UNFILTERED)
        expected = segment(slide.read(0, 0, slide.width_px, slide.height_px)).is_tissue
    assert mask.downsample == (1, 1)
    np.testing.assert_array_equal(mask.is_tissue, expected)
    assert 0.4 < mask.is_tissue.mean() < 0.9


def test_large_slide_is_segmented_on_a_thumbnail(tmp_path: Path):
    rgb = np.full((600, 4096, 3), WHITE, np.uint8)
    rgb[100:500, 1000:3000] = PINK
    path = tmp_path / "wide.png"
    Image.fromarray(rgb).save(path)
    with open_slide(path) as slide:
        mask = segment_tissue(slide)
    assert mask.downsample == (2, 2)
    expected = np.zeros((300, 2048), bool)
    expected[50:250, 500:1500] = True
    np.testing.assert_array_equal(mask.is_tissue, expected)


def test_blank_slide_has_no_tissue(tmp_path: Path):
    path = tmp_path / "blank.png"
    Image.new("RGB", (70, 50), "white").save(path)
    with open_slide(path) as slide:
        assert not segment_tissue(slide).is_tissue.any()


def test_large_slide_of_known_mpp_is_segmented_at_a_fixed_resolution():
    """3,000 x 900 px at 0.5 um/px; 8 um/px is a downsample of 16."""
    is_pink = np.zeros((900, 3000), bool)
    is_pink[160:640, 320:1600] = True
    mask = segment_tissue(pink(is_pink, mpp=0.5))
    assert mask.downsample == pytest.approx((3000 / 188, 900 / 56))
    assert mask.is_tissue.shape == (56, 188)
    assert mask.is_tissue.sum() == pytest.approx(is_pink.sum() / 16**2, rel=0.05)


def test_mask_of_a_needle_is_where_its_tissue_is():
    """301 x 40,000 px; the mask is 19 px wide, so that one factor for both axes would be 1% off."""
    is_pink = np.zeros((40_000, 301), bool)
    is_pink[39_000:39_400, 50:250] = True
    slide = pink(is_pink, mpp=0.5)
    mask = segment_tissue(slide)
    assert mask.downsample == (301 / 19, 16)
    rows = np.flatnonzero(mask.is_tissue.any(axis=1)) * mask.downsample.y
    assert (rows.min(), rows.max() + 16) == pytest.approx((39_000, 39_400), abs=16)
    polygon = outlines(mask.is_tissue, downsample=mask.downsample, name="tissue")[0].polygon
    assert polygon.min(axis=0) == pytest.approx((50, 39_000), abs=16)
    assert polygon.max(axis=0) == pytest.approx((250, 39_400), abs=16)
    grid = place_patches(slide, PatchConfig(size_px=32, min_tissue=0.9), tissue=mask)
    assert grid.coords[:, 1].min() >= 39_000 - 16
    assert grid.coords[:, 1].max() + 32 <= 39_400 + 16


def test_large_slide_of_unknown_mpp_is_segmented_on_2048_px():
    assert segment_tissue(pink(np.ones((900, 4096), bool), mpp=None)).downsample == (2, 2)


def test_dust_is_removed_and_small_holes_are_filled_by_their_area_in_um2():
    """At 2 um/px: 10 x 10 px are 400 um2, 30 x 30 px 3,600 um2."""
    is_pink = np.zeros((200, 300), bool)
    is_pink[20:180, 20:200] = True
    is_pink[40:50, 40:50] = False
    is_pink[100:130, 100:130] = False
    is_pink[20:30, 250:260] = True
    is_pink[100:130, 250:280] = True
    expected = is_pink.copy()
    expected[40:50, 40:50] = True
    expected[20:30, 250:260] = False
    assert (segment_tissue(pink(is_pink, mpp=2.0)).is_tissue == expected).all()
    assert (segment_tissue(pink(is_pink, mpp=0.1), UNFILTERED).is_tissue == is_pink).all()
    assert (segment_tissue(pink(is_pink, mpp=None)).is_tissue == is_pink).all()


def test_a_gap_at_the_border_is_not_a_hole():
    is_pink = np.ones((40, 60), bool)
    is_pink[:5, 10:15] = False
    assert (segment_tissue(pink(is_pink, mpp=2.0)).is_tissue == is_pink).all()


def segment_whole(rgb: np.ndarray, *, rule: str, pen: np.ndarray | None) -> np.ndarray:
    """The tissue as `segment_strips` defines it, all pixels at once."""
    _, saturation, value = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))
    is_seen = np.ones(rgb.shape[:2], bool) if pen is None else ~pen
    found = []
    for channel, is_above in ((saturation, True), (value, False)):
        seen = channel[is_seen]
        threshold = otsu(seen[:, None]) if len(seen) else 0
        low, high = seen[seen <= threshold], seen[seen > threshold]
        has_contrast = len(low) > 0 and len(high) > 0 and high.mean() - low.mean() >= 10
        found.append(has_contrast & ((channel > threshold) == is_above))
    coloured, dark = found
    rules = {"s-or-v": coloured | dark, "s-and-v": coloured & dark, "s": coloured, "v": dark}
    return rules[rule] & is_seen


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 700), st.integers(1, 5), st.just(3))),
    st.lists(st.integers(0, 700), max_size=3),
    st.sampled_from(["s-or-v", "s-and-v", "s", "v"]),
    st.sampled_from([None, 0.0, 0.4, 1.0]),
)
def test_strips_give_the_mask_of_the_whole(rgb: np.ndarray, cuts: list[int], rule: str, inked: float | None):
    pen = None if inked is None else np.random.default_rng(0).random(rgb.shape[:2]) < inked
    strips = [strip for strip in np.split(rgb, sorted(min(cut, len(rgb)) for cut in cuts)) if len(strip)]
    mask = segment_strips(strips, rule=rule, downsample=1.0, pen=pen)
    np.testing.assert_array_equal(mask.is_tissue, segment_whole(rgb, rule=rule, pen=pen))


def test_a_slide_of_many_strips_has_the_mask_of_its_thumbnail(monkeypatch: pytest.MonkeyPatch):
    rgb, _ = island(PINK, noise=9)
    slide = picture_slide(rgb)
    monkeypatch.setattr("hardmil.slides.slide.STRIP_PX", 1000)
    expected = segment_whole(slide.thumbnail(2048), rule="s-or-v", pen=None)
    np.testing.assert_array_equal(segment_tissue(slide, UNFILTERED).is_tissue, expected)


def test_annotated_areas_restrict_and_exclude():
    is_pink = np.ones((60, 80), bool)
    # A slide that is pink everywhere would have no contrast, and hence no tissue.
    is_pink[0, 0] = False
    slide = pink(is_pink, mpp=None)
    regions = [
        Region(square(8, 4, 32), "tumour", holes=(square(16, 12, 8),)),
        Region(square(30, 4, 10), "fold"),
        Region(square(60, 40, 10), "other"),
    ]
    tumour = np.zeros((60, 80), bool)
    tumour[4:36, 8:40] = True
    tumour[12:20, 16:24] = False
    fold = np.zeros((60, 80), bool)
    fold[4:14, 30:40] = True
    config = with_settings(keep=("tumour",), drop=("fold",))
    everything = segment_tissue(slide, regions=regions).is_tissue
    assert everything.sum() == 60 * 80 - 1
    np.testing.assert_array_equal(segment_tissue(slide, config, regions=regions).is_tissue, tumour & ~fold)
    dropped = segment_tissue(slide, with_settings(drop=("fold",)), regions=regions).is_tissue
    np.testing.assert_array_equal(dropped, everything & ~fold)
    assert (segment_tissue(slide, with_settings(drop=("fold",))).is_tissue == everything).all()
    unnamed = [*regions, Region(square(60, 4, 10), "")]
    kept = segment_tissue(slide, with_settings(keep=("*",)), regions=unnamed).is_tissue
    assert kept.sum() == (32 * 32 - 8 * 8) + 10 * 10 * 2


@pytest.mark.parametrize("where", [(200, 10), (10, 150), (-60, 10), (10, -60)])
@pytest.mark.parametrize("setting", ["keep", "drop"])
def test_an_annotation_outside_the_slide_is_named(where: tuple[int, int], setting: str):
    slide = picture_slide(np.full((150, 200, 3), PINK, np.uint8), mpp=0.5)
    config, regions = with_settings(**{setting: ("tumour",)}), [Region(square(*where, size=50), "tumour")]
    with pytest.raises(
        SlideError, match=r'an annotation "tumour" is outside the slide, at x .* 200 x 150 px'
    ):
        segment_tissue(slide, config, regions=regions)
    segment_tissue(slide, with_settings(drop=("fold",)), regions=regions)


def test_slide_without_the_annotations_that_restrict_it_is_named():
    slide = pink(np.ones((60, 80), bool), mpp=None)
    with pytest.raises(
        SlideError, match=r"pink.png: has no annotations, .*keep asks for tumour; .*annotations column"
    ):
        segment_tissue(slide, with_settings(keep=("tumour",)))
    assert not segment_tissue(slide, with_settings(keep=("tumour",)), regions=[]).is_tissue.any()
