"""A tall, narrow slide: its two axes are reduced by different factors, because edges are rounded down."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

RGB = np.repeat(np.random.default_rng(0).integers(0, 256, (2000, 61, 1), np.uint8), 3, axis=2)
COARSE = np.ascontiguousarray(RGB[::2, :60:2])
"""Level 1: 30 x 1,000 px of 61 x 2,000 px, reduced by 2.033 and by 2."""


def _tiles(rgb: np.ndarray, *, edge: int, empty: int | None) -> Iterator[np.ndarray | None]:
    """The tiles of an image, row by row, padded; the one with this index is left out of the file."""
    rows, columns = -(-rgb.shape[0] // edge), -(-rgb.shape[1] // edge)
    padded = np.pad(rgb, ((0, rows * edge - rgb.shape[0]), (0, columns * edge - rgb.shape[1]), (0, 0)))
    for i in range(rows * columns):
        y, x = i // columns * edge, i % columns * edge
        yield None if i == empty else np.ascontiguousarray(padded[y : y + edge, x : x + edge])


def write_needle(path: Path, *, empty: int | None = None) -> Path:
    """A pyramid of two levels in tiles of 32 px: OME-TIFF by its name, else plain TIFF.

    Without the tile `empty` of its second level, OpenSlide reads that level of a plain TIFF.
    """
    is_ome = ".ome." in path.name
    how = {"tile": (32, 32), "photometric": "rgb", "compression": "deflate", "dtype": np.uint8}
    with tifffile.TiffWriter(path, ome=is_ome) as tiff:
        tiff.write(
            _tiles(RGB, edge=32, empty=None),
            shape=RGB.shape,
            subifds=1 if is_ome else None,
            metadata={"axes": "YXS"} if is_ome else None,
            **how,  # pyright: ignore[reportArgumentType]
        )
        tiff.write(
            _tiles(COARSE, edge=32, empty=empty),
            shape=COARSE.shape,
            subfiletype=1,
            metadata=None,
            **how,  # pyright: ignore[reportArgumentType]
        )
    return path
