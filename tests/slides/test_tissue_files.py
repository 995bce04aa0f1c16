import io

import numpy as np
from PIL import Image
from tests.support.slides import picture_slide

from hardmil.slides.tissue import segment_tissue
from hardmil.slides.tissue_files import draw_tissue

WHITE, PURPLE = (244, 243, 245), (110, 70, 150)


def test_patches_of_a_needle_are_drawn_where_they_are():
    """1,500 x 40,000 px: the picture is 14 x 360 px, so that one factor for both axes would be 4% off."""
    rgb = np.full((40_000, 1500, 3), WHITE, np.uint8)
    rgb[38_000:38_448, 448:896] = PURPLE
    slide = picture_slide(rgb)
    jpeg = draw_tissue(slide, segment_tissue(slide), coords=np.array([[448, 38_000]]), size_level0_px=448)
    drawn = np.asarray(Image.open(io.BytesIO(jpeg)))
    assert drawn.shape == (360, 14, 3)
    dark = np.flatnonzero((drawn[..., 1] < 215).any(axis=1))
    expected = 38_000 / 40_000 * 360, 38_448 / 40_000 * 360
    # The outline is a pixel wide, and JPEG smears it over two more.
    assert expected[0] - 4 <= dark.min()
    assert dark.max() <= expected[1] + 4
