from pathlib import Path

import numpy as np
import pytest
from tests.support.slides import picture_slide

from hardmil.errors import SlideError
from hardmil.pictures.bag_heatmap import draw_heatmap, write_bag_heatmap_tiff
from hardmil.pictures.heatmap import SlideAttention
from hardmil.pictures.slide_pictures import slide_pictures


def test_patches_of_another_scan_are_not_drawn(tmp_path: Path):
    slide = picture_slide(np.full((300, 400, 3), 200, np.uint8), mpp=0.5, name=str(tmp_path / "slide.png"))
    elsewhere = SlideAttention("slide", None, 0.9, np.array([[0, 0], [800, 600]]), 100, np.array([0.4, 0.6]))
    with pytest.raises(
        SlideError, match=r"1 of 2 patches are outside it, first \(800, 600\); .* 400 x 300 px"
    ):
        draw_heatmap(slide, elsewhere)
    with pytest.raises(SlideError, match="1 of 2 patches are outside it"):
        write_bag_heatmap_tiff(tmp_path / "a.ome.tiff", slide, elsewhere)
    with pytest.raises(SlideError, match="1 of 2 patches are outside it"):
        slide_pictures(slide, elsewhere)
