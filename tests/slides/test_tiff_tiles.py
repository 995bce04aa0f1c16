from pathlib import Path

import numpy as np
import pytest
import tifffile

from hardmil.slides.reader import open_slide

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
