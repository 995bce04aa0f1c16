"""Heat maps of a bag of 100,000 patches: seconds for each kind, and peak memory of the process."""

import tempfile
import time
from pathlib import Path

import numpy as np
from memory import own_peak_mb

from hardmil.geometry import Downsample, Frame, Rectangle
from hardmil.pictures.heatmap import SlideAttention, attention_figure
from hardmil.pictures.heatmap_tiff import write_heatmap_tiff

COLUMNS, ROWS, PATCH_PX = 400, 250, 256


def main() -> None:
    """Draw each kind once, after a warm-up of matplotlib."""
    rng = np.random.default_rng(0)
    coords = np.stack(np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), axis=-1).reshape(-1, 2) * PATCH_PX
    attention, contribution = rng.random(len(coords)), rng.normal(size=len(coords))
    slide = SlideAttention("s", "t", 0.5, coords, PATCH_PX, attention, 0.25, contribution=contribution)
    thumbnail = np.full((1000, 1600, 3), 220, np.uint8)
    bounds = Rectangle(0, 0, COLUMNS * PATCH_PX, ROWS * PATCH_PX)
    downsample = Downsample.between((bounds.width, bounds.height), (thumbnail.shape[1], thumbnail.shape[0]))
    frame = Frame(0, 0, downsample)
    attention_figure(slide, thumbnail=thumbnail, frame=frame)
    for of in ("attention", "contribution"):
        start = time.perf_counter()
        attention_figure(slide, thumbnail=thumbnail, frame=frame, quantity=of)
        print(f"{of}, PNG: {time.perf_counter() - start:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = Path(folder) / "s.ome.tiff"
        write_heatmap_tiff(path, slide, bounds=bounds)
        print(f"attention, OME-TIFF: {time.perf_counter() - start:.2f} s")
    print(f"peak: {own_peak_mb():.0f} MB")


if __name__ == "__main__":
    main()
