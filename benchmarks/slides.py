"""Speed and memory of reading the pixels of all patches of a slide.

    python benchmarks/slides.py --output DIR [--slide FILE.svs]

Writes a JPEG-tiled pyramid of 20,000 x 15,000 px to DIR and reads every patch of it (and of FILE). Prints
MP/s next to two others: only decoding every tile once (the limit), and one OpenSlide read_region per patch.
Then prints the peak memory for slides of 40 MP and 4,000 MP. Compare numbers within one run only.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import openslide
import tifffile
from imagecodecs import jpeg_encode
from memory import own_peak_mb

from hardmil.bags.slide_table import SlideRow
from hardmil.config.patches import PatchConfig
from hardmil.preprocessing.patch_coords import write_patch_coords
from hardmil.slides.grid import PatchGrid
from hardmil.slides.reader import open_slide
from hardmil.slides.reading import read_blocks

WIDTH_PX, HEIGHT_PX = 20_000, 15_000
TILE_PX = 256
PATCH_PX = 224
N_TEXTURES = 16
SIZES_PX = {"40 MP": (8_000, 5_000), "4,000 MP": (80_000, 50_000)}


def textures(*, detail: float) -> list[bytes]:
    """JPEG tiles that look like stained tissue: nuclei on eosin, with camera noise."""
    rng = np.random.default_rng(0)
    tiles: list[bytes] = []
    for _ in range(N_TEXTURES):
        blobs = cv2.GaussianBlur(rng.normal(size=(TILE_PX, TILE_PX)).astype(np.float32), (0, 0), 4)
        is_nucleus = (blobs > 1.2 * blobs.std()).astype(np.float32)[..., None]
        rgb = np.array([225, 165, 200]) * (1 - is_nucleus) + np.array([110, 70, 140]) * is_nucleus
        rgb = rgb + detail * rng.normal(scale=6, size=rgb.shape)
        tiles.append(bytes(jpeg_encode(np.clip(rgb, 0, 255).astype(np.uint8), level=85 if detail else 30)))
    return tiles


def write_pyramid(path: Path, *, width: int, height: int, n_levels: int, detail: float = 1.0) -> None:
    """Write a tiled TIFF, level by level, tile by tile."""
    tiles = textures(detail=detail)

    def drawn(count: int) -> Iterator[bytes]:
        order = np.random.default_rng(1).integers(N_TEXTURES, size=count)
        yield from (tiles[index] for index in order)

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(n_levels):
            shape = height >> (2 * level), width >> (2 * level), 3
            tiff.write(
                drawn(-(-shape[0] // TILE_PX) * -(-shape[1] // TILE_PX)),
                shape=shape,
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=int(level > 0),
                metadata=None,
            )


def grid_of(width: int, height: int, *, offset_px: int) -> PatchGrid:
    """All patches of a grid without overlap, starting at an offset."""
    x, y = (np.arange(offset_px, edge - PATCH_PX + 1, PATCH_PX) for edge in (width, height))
    coords = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.int64)
    return PatchGrid(coords, PATCH_PX, PATCH_PX, np.ones(len(coords)))


def decode_all(path: Path, *, threads: int) -> float:
    """MP/s of decoding every tile once, in file order."""
    with tifffile.TiffFile(path) as tiff, ThreadPoolExecutor(threads) as pool:
        page, handle = tiff.pages.first, tiff.filehandle

        def decode(some: list[int]) -> None:
            for index in some:
                with path.open("rb") as file:
                    file.seek(page.dataoffsets[index])
                    page.decode(file.read(page.databytecounts[index]), index, jpegtables=page.jpegtables)

        assert handle.size > 0
        runs = np.array_split(np.arange(len(page.dataoffsets)), -(-len(page.dataoffsets) // 16))
        start = time.perf_counter()
        list(pool.map(decode, [run.tolist() for run in runs]))
        return page.imagewidth * page.imagelength / 1e6 / (time.perf_counter() - start)


def read_ours(path: Path, *, threads: int) -> float:
    """MP/s of `read_blocks`."""
    with open_slide(path) as slide:
        grid = grid_of(slide.width_px, slide.height_px, offset_px=100)
        start = time.perf_counter()
        n = sum(len(members) for members, _ in read_blocks(slide, grid, threads=threads))
        assert n == len(grid)
        return n * PATCH_PX**2 / 1e6 / (time.perf_counter() - start)


def read_regions(path: Path, *, threads: int) -> float:
    """MP/s of one read_region per patch, for the first 1,500 patches."""
    with openslide.OpenSlide(path) as slide, ThreadPoolExecutor(threads) as pool:
        coords = grid_of(*slide.dimensions, offset_px=100).coords[:1500].tolist()

        def read(corner: list[int]) -> None:
            np.asarray(slide.read_region((corner[0], corner[1]), 0, (PATCH_PX, PATCH_PX)).convert("RGB"))

        start = time.perf_counter()
        list(pool.map(read, coords))
        return len(coords) * PATCH_PX**2 / 1e6 / (time.perf_counter() - start)


def speed_rows(path: Path, *, repeats: int) -> Iterator[str]:
    """Markdown rows: the best of several alternating repeats of each."""
    ways: list[Callable[..., float]] = [decode_all, read_ours, read_regions]
    for threads in (1, 2):
        turns = [[way(path, threads=threads) for way in ways] for _ in range(repeats)]
        limit, ours, regions = np.max(turns, axis=0)
        yield (
            f"| {path.name} | {threads} | {limit:.0f} | {ours:.0f} | {regions:.0f} | {ours / limit:.2f} | "
            f"{ours / regions:.1f} |"
        )


def place(path: Path) -> None:
    """Find the patch coordinates of a slide like `hardmil patch`, at 0.25 um/px."""
    row = SlideRow("slide", "case", None, path, 0.25)
    with TemporaryDirectory() as folder:
        write_patch_coords(row, config=PatchConfig(size_px=PATCH_PX), path=Path(folder) / "places.h5")


def peak_mb(path: Path, *, of: str) -> float:
    """Peak memory of a process that reads every patch of a slide, or that finds their coordinates."""
    call = [sys.executable, __file__, "--peak", str(path), "--of", of]
    return float(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="folder for the synthetic slides")
    parser.add_argument("--slide", type=Path, help="a real slide, tiled TIFF or SVS")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--of", default="reading", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        if options.of == "placing":
            place(options.peak)
        else:
            read_ours(options.peak, threads=2)
        print(own_peak_mb())
        return
    options.output.mkdir(parents=True, exist_ok=True)
    made = options.output / "pyramid.tif"
    if not made.exists():
        write_pyramid(made, width=WIDTH_PX, height=HEIGHT_PX, n_levels=3)
    print("| slide | threads | decoding MP/s | hardmil | read_region | of decoding | of read_region |")
    print("|---|---|---|---|---|---|---|")
    for path in filter(None, (made, options.slide)):
        for row in speed_rows(path, repeats=options.repeats):
            print(row, flush=True)
    print("\n| slide | reading all patches, peak MB | finding their coordinates, peak MB |\n|---|---|---|")
    for name, (width, height) in SIZES_PX.items():
        path = options.output / f"{width}x{height}.tif"
        if not path.exists():
            write_pyramid(path, width=width, height=height, n_levels=1, detail=0.0)
        levels = options.output / f"{width}x{height}-levels.tif"
        if not levels.exists():
            write_pyramid(levels, width=width, height=height, n_levels=6)
        reading, placing = peak_mb(path, of="reading"), peak_mb(levels, of="placing")
        print(f"| {name} | {reading:.0f} | {placing:.0f} |", flush=True)


if __name__ == "__main__":
    main()
