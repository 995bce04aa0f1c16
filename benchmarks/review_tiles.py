"""How long `hardmil review` takes for a tile and for a patch: of a slide just opened, new, and shown before.

The slide is synthetic, 40,000 x 30,000 px in five levels of JPEG tiles, unless one is given.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from hardmil.geometry import Rectangle
from hardmil.review.slide_pictures import SlidePictures

WIDTH, HEIGHT, LEVELS, FILE_TILE_PX = 40_000, 30_000, 5, 256
N_TILES, N_PATCHES, PATCH_LEVEL0_PX = 60, 60, 512


def main() -> None:
    """Print medians and the slowest tenth, in ms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slide", type=Path, help="A slide to read instead of the synthetic one.")
    slide = parser.parse_args().slide
    with tempfile.TemporaryDirectory() as folder:
        path = slide or write_slide(Path(folder) / "slide.tif")
        measure(path)


def write_slide(path: Path) -> Path:
    """A large slide of noise; its tiles are one of 64, so that it is written in seconds."""
    rng = np.random.default_rng(0)
    kinds = rng.normal((220, 160, 200), 25, (64, FILE_TILE_PX, FILE_TILE_PX, 3)).clip(0, 255).astype(np.uint8)

    def tiles(n: int) -> Iterator[np.ndarray]:
        yield from (kinds[i % 64] for i in range(n))

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(LEVELS):
            width, height = WIDTH >> level, HEIGHT >> level
            n = -(-width // FILE_TILE_PX) * -(-height // FILE_TILE_PX)
            tiff.write(
                tiles(n),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(FILE_TILE_PX, FILE_TILE_PX),
                photometric="rgb",
                compression="jpeg",
                subfiletype=int(level > 0),
                resolution=(20_000 >> level,) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


def measure(path: Path) -> None:
    """Measure tiles of all levels and patches, each in random order."""
    rng = np.random.default_rng(1)
    pictures = SlidePictures([path])
    start = time.perf_counter()
    pyramid = pictures.pyramid(0)
    print(f"{path.name}, {pyramid.width_px} x {pyramid.height_px} px, opened in {ms(start):.0f} ms")
    places: list[tuple[int, int, int]] = []
    for level in rng.integers(pyramid.min_level, pyramid.max_level + 1, N_TILES).tolist():
        columns, rows = pyramid.grid(level)
        places.append((level, int(rng.integers(columns)), int(rng.integers(rows))))
    corners = rng.integers(
        0, (pyramid.width_px - PATCH_LEVEL0_PX, pyramid.height_px - PATCH_LEVEL0_PX), (N_PATCHES, 2)
    )
    squares = [Rectangle(x, y, PATCH_LEVEL0_PX, PATCH_LEVEL0_PX) for x, y in corners.tolist()]
    for name in ("new", "shown before"):
        report(
            f"tiles, {name}",
            [lambda p=p: pictures.tile(0, level=p[0], column=p[1], row=p[2]) for p in places],
        )
        report(f"patches, {name}", [lambda s=s: pictures.patch(0, square=s) for s in squares])
        report(f"surroundings, {name}", [lambda s=s: pictures.surroundings(0, square=s) for s in squares])
    pictures.close()


def report(name: str, calls: list[Callable[[], object]]) -> None:
    """Print how long the calls take."""
    seconds: list[float] = []
    for call in calls:
        start = time.perf_counter()
        call()
        seconds.append(ms(start))
    print(f"{name}: median {statistics.median(seconds):.1f} ms, 90% below {np.quantile(seconds, 0.9):.1f} ms")


def ms(start: float) -> float:
    """Milliseconds since a time."""
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
