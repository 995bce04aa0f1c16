from pathlib import Path

import numpy as np
import pytest
import tifffile
from matplotlib import colormaps

from hardmil.geometry import Rectangle
from hardmil.phantom.slide import draw_phantom
from hardmil.pictures.heatmap import COLOUR_MAP, HeatmapQuantity, SlideAttention, colour_map
from hardmil.pictures.heatmap_tiff import LONGEST_PX, write_heatmap_tiff
from hardmil.slides.reader import open_slide

WIDTH_PX, HEIGHT_PX, PATCH_PX, MPP = 40_000, 26_000, 256, 0.25
HOT, COLD = (30_720, 2_560), (2_560, 20_480)


def _slide(mpp: float | None = MPP) -> SlideAttention:
    coords = np.array([HOT, COLD, (10_240, 10_240)], np.int64)
    return SlideAttention("s", "tumour", 0.9, coords, PATCH_PX, np.array([0.8, 0.05, 0.15]), mpp)


def _write(path: Path, *, mpp: float | None = MPP) -> Path:
    write_heatmap_tiff(path, _slide(mpp), bounds=Rectangle(0, 0, WIDTH_PX, HEIGHT_PX))
    return path


def test_extent_is_that_of_the_slide(tmp_path: Path):
    with open_slide(_write(tmp_path / "s.ome.tiff")) as heatmap:
        assert heatmap.mpp is not None
        scale = round(heatmap.mpp / MPP)
        # Up to 15 white rows and columns are added, so that each level is exactly half of the one before.
        assert 0 <= heatmap.width_px - WIDTH_PX / scale < 16
        assert 0 <= heatmap.height_px - HEIGHT_PX / scale < 16
        assert heatmap.width_px <= LONGEST_PX
        assert [level.downsample for level in heatmap.levels] == [
            (2.0**i, 2.0**i) for i in range(len(heatmap.levels))
        ]
        assert len(heatmap.levels) >= 3
        for (x, y), colour in ((HOT, "#fde725"), (COLD, "#440154")):
            middle = (round((x + PATCH_PX / 2) / scale), round((y + PATCH_PX / 2) / scale))
            pixel = heatmap.read(*middle, 1, 1)[0, 0]
            assert "#{:02x}{:02x}{:02x}".format(*pixel.tolist()) == colour, COLOUR_MAP
        assert heatmap.read(0, 0, 8, 8).min() == 255, "no patch there"


def test_name_and_missing_pixel_size_are_written(tmp_path: Path):
    with tifffile.TiffFile(_write(tmp_path / "s.ome.tiff", mpp=None)) as file:
        assert file.is_ome
        assert file.ome_metadata is not None
        assert 'Name="attention of s, by rank"' in file.ome_metadata
        assert "PhysicalSize" not in file.ome_metadata


@pytest.mark.parametrize("of", ["attention", "contribution"])
def test_the_strongest_patch_is_in_the_focus_of_a_synthetic_slide(tmp_path: Path, of: HeatmapQuantity):
    """The slide is not square; the attention is put where its truth has a focus."""
    phantom = draw_phantom(3, lesion=True, look_alikes=False, width_px=1600, height_px=900)
    foci = [one for one in phantom.regions if one.name == "lesion"]
    size = 32
    corners = np.stack(np.meshgrid(np.arange(0, 1600, size), np.arange(0, 896, size)), -1).reshape(-1, 2)
    x, y = np.round(foci[0].polygon.mean(axis=0) / size - 0.5) * size
    distance = np.hypot(*(corners - (x, y)).T)
    attention = np.exp(-distance / 50)
    slide = SlideAttention(
        "s", "t", 0.9, corners.astype(np.int64), size, attention, 0.5, contribution=attention - 0.1
    )
    path = tmp_path / "s.ome.tiff"
    write_heatmap_tiff(path, slide, bounds=Rectangle(0, 0, 1600, 900), quantity=of, scale="raw")
    with open_slide(path) as heatmap:
        picture = heatmap.read(0, 0, heatmap.width_px, heatmap.height_px)
        most = np.array(colormaps[colour_map(of)](1.0)[:3]) * 255
        rows, columns = np.nonzero(np.abs(picture.astype(float) - most).max(axis=2) <= 1)
        scale = size // 8
        hottest = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) * scale
    outline = foci[0].polygon
    assert (outline.min(axis=0) <= hottest).all()
    assert (hottest <= outline.max(axis=0)).all()
