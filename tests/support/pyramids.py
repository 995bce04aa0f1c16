"""A slide of two levels with a known resolution, and what a file says of its coordinates."""

from pathlib import Path

import h5py
import numpy as np
import tifffile

from hardmil.bags.slide_table import SlideRow

RGB = np.zeros((200, 300, 3), np.uint8)
RGB[:100], RGB[100:, 150:] = (200, 60, 120), (90, 40, 130)


def write_pyramid(path: Path, *, mpp: float | None = 0.25) -> Path:
    """300 x 200 px in tiles of 64, and half of it; without a resolution where `mpp` is None."""
    return write_rgb_pyramid(path, RGB, mpp=mpp)


def write_rgb_pyramid(path: Path, rgb: np.ndarray, *, mpp: float | None = 0.25) -> Path:
    """A picture in tiles of 64, and half of it."""
    with tifffile.TiffWriter(path) as tiff:
        for level in (0, 1):
            step = 2**level
            known = {"resolution": (1e4 / mpp / step,) * 2, "resolutionunit": "CENTIMETER"} if mpp else {}
            tiff.write(
                rgb[::step, ::step],
                tile=(64, 64),
                photometric="rgb",
                subfiletype=level,
                metadata=None,
                **known,
            )
    return path


def row_of(path: Path, *, mpp: float | None = None) -> SlideRow:
    return SlideRow("s", "s", None, path, mpp)


def attributes_of(path: Path) -> dict[str, object]:
    with h5py.File(path) as file:
        return dict(file["coords"].attrs)
