from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.support.slides import picture_slide

from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.errors import SlideError
from hardmil.geometry import Downsample
from hardmil.phantom.slide import draw_phantom
from hardmil.slides.artefacts import is_out_of_focus, is_pen
from hardmil.slides.reader import open_slide
from hardmil.slides.tissue import segment_tissue

INKS = {"green": (20, 130, 70), "blue": (35, 60, 165), "red": (200, 25, 40), "black": (40, 40, 45)}


@pytest.fixture(scope="module")
def tissue_rgb() -> np.ndarray:
    """Made-up tissue of 1,200 x 900 um: 1 um/px."""
    phantom = draw_phantom(3, lesion=True, look_alikes=True, width_px=2400, height_px=1800)
    return cv2.resize(phantom.rgb, (1200, 900), interpolation=cv2.INTER_AREA)


def with_stroke(rgb: np.ndarray, ink: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image with a pen stroke 100 um wide, and the mask of the stroke."""
    is_stroke = np.zeros(rgb.shape[:2], np.uint8)
    cv2.line(is_stroke, (100, 150), (1050, 700), 1, thickness=100)
    # Ink is slightly transparent.
    inked = 0.85 * np.array(ink) + 0.15 * rgb
    return np.where(is_stroke[..., None] > 0, inked, rgb).astype(np.uint8), is_stroke > 0


@pytest.mark.parametrize("colour", INKS)
def test_all_of_the_pen_is_found_and_nothing_else(tissue_rgb: np.ndarray, colour: str):
    rgb, is_stroke = with_stroke(tissue_rgb, INKS[colour])
    found = is_pen(rgb, um_per_px=1.0)
    assert found[is_stroke].mean() > 0.99
    rim = cv2.dilate(is_stroke.astype(np.uint8), np.ones((121, 121), np.uint8)) > 0
    assert not found[~rim].any()


def test_no_pen_is_found_in_tissue_without_pen(tissue_rgb: np.ndarray):
    assert not is_pen(tissue_rgb, um_per_px=1.0).any()


def test_no_pen_is_found_in_real_tissue(data_dir: Path):
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
        rgb, um_per_px = slide.thumbnail(2048), 0.499 * slide.height_px / 2048
        assert is_pen(rgb, um_per_px=um_per_px).mean() < 0.001


@pytest.mark.parametrize("colour", [colour for colour in INKS if colour != "black"])
def test_pen_is_not_tissue_where_the_resolution_is_known(tissue_rgb: np.ndarray, colour: str):
    rgb, is_stroke = with_stroke(tissue_rgb, INKS[colour])
    kept = PatchConfig(tissue=TissueConfig(drop_pen=False))
    with_pen = segment_tissue(picture_slide(rgb, mpp=1.0), kept).is_tissue
    usual = segment_tissue(picture_slide(rgb, mpp=1.0)).is_tissue
    assert with_pen[is_stroke].mean() > 0.9
    assert usual[is_stroke].mean() < 0.01
    assert usual[~is_stroke].sum() > 0.7 * with_pen[~is_stroke].sum()
    assert segment_tissue(picture_slide(rgb, mpp=None)).is_tissue[is_stroke].mean() > 0.9


def half_blurred(rgb: np.ndarray) -> np.ndarray:
    """The image with its right half blurred by 4 um."""
    blurred = cv2.GaussianBlur(rgb, (0, 0), 4.0)
    return np.hstack([rgb[:, :600], blurred[:, 600:]])


def test_blurred_half_is_found(tissue_rgb: np.ndarray):
    slide = picture_slide(half_blurred(tissue_rgb), mpp=1.0)
    is_tissue = segment_tissue(slide).is_tissue
    found = is_out_of_focus(slide, is_tissue, downsample=Downsample(1.0, 1.0), mpp=1.0)
    assert found[:, :576][is_tissue[:, :576]].mean() < 0.01
    # Cells without contrast are not judged.
    assert found[:, 640:][is_tissue[:, 640:]].mean() > 0.75
    config = PatchConfig(tissue=TissueConfig(drop_blurred=True))
    np.testing.assert_array_equal(segment_tissue(slide, config).is_tissue, is_tissue & ~found)


def test_focus_does_not_depend_on_the_scale_of_the_mask(tissue_rgb: np.ndarray):
    """One pixel of the mask covers 4 level-0 px, and some blocks do not start at 0."""
    wide = np.vstack([half_blurred(tissue_rgb)] * 3)
    slide = picture_slide(wide, mpp=1.0)
    everywhere = np.ones((wide.shape[0] // 4, wide.shape[1] // 4), dtype=bool)
    coarse = is_out_of_focus(slide, everywhere, downsample=Downsample(4.0, 4.0), mpp=1.0)
    fine = is_out_of_focus(
        slide, np.ones(wide.shape[:2], dtype=bool), downsample=Downsample(1.0, 1.0), mpp=1.0
    )
    assert (coarse == fine[::4, ::4]).mean() > 0.97


def test_real_tissue_is_in_focus(data_dir: Path):
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
        mask = segment_tissue(slide)
        found = is_out_of_focus(slide, mask.is_tissue, downsample=mask.downsample, mpp=slide.mpp)
        assert found[mask.is_tissue].mean() < 0.02


@pytest.mark.parametrize(("mpp", "found"), [(None, "is unknown"), (2.0, "is 2 um/px")])
def test_resolution_too_coarse_for_focus_is_refused(tissue_rgb: np.ndarray, mpp: float | None, found: str):
    with pytest.raises(SlideError, match=rf"slide\.png: its resolution {found}, .*1\.5 um/px or finer"):
        is_out_of_focus(
            picture_slide(tissue_rgb, mpp=mpp),
            np.ones((9, 9), bool),
            downsample=Downsample(1.0, 1.0),
            mpp=mpp,
        )
