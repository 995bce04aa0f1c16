import cv2
import numpy as np
import pytest
from tests.support.slides import picture_slide

from hardmil.pictures.heatmap import SlideAttention
from hardmil.pictures.slide_pictures import slide_pictures

GLASS, LESION = (245, 245, 245), (40, 20, 120)
SIZE = 448


@pytest.fixture(scope="module")
def needle() -> np.ndarray:
    """1,900 x 60,000 px with one dark lesion near the bottom; a thumbnail of 360 px is 11 px wide."""
    rgb = np.full((60_000, 1900, 3), GLASS, np.uint8)
    rgb[57_792 : 57_792 + SIZE, 672 : 672 + SIZE] = LESION
    return rgb


def _attention() -> SlideAttention:
    return SlideAttention("needle", None, 0.9, np.array([[672, 57_792]]), SIZE, np.array([1.0]))


def _rows(picture: np.ndarray) -> tuple[float, float]:
    """First and last row that is not glass, as a share of the height."""
    rows = np.flatnonzero((np.abs(picture.astype(int) - GLASS).max(axis=2) > 40).any(axis=1))
    return float(rows.min() / len(picture)), float((rows.max() + 1) / len(picture))


def test_attention_of_a_needle_is_drawn_over_its_patch(needle: np.ndarray):
    drawn = slide_pictures(picture_slide(needle), _attention())
    assert (drawn.width, drawn.height) == (11, 360)
    where = (57_792 / 60_000, (57_792 + SIZE) / 60_000)
    for webp in (drawn.thumbnail, drawn.overlay):
        picture = cv2.imdecode(np.frombuffer(webp, np.uint8), cv2.IMREAD_COLOR_RGB)
        # WebP smears a colour over a block of 8 px.
        assert _rows(np.asarray(picture)) == pytest.approx(where, abs=8 / 360)
