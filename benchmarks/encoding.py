"""Speed of `hardmil encode` compared with its bare network on random input, and peak memory.

python benchmarks/encoding.py [--slide FILE] [--rounds 3] [--megapixels 20] [--device cpu] [--precision auto]

Each round times `encode_slides` on the slide (reading, normalising, encoding, writing) and the network alone
on the same number of random, normalised patches. Peak memory is measured in a separate process, for a slide
of the given megapixels and for one of about four times as many.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from memory import own_peak_mb

from hardmil.bags.slide_table import SlideRow
from hardmil.config.patches import PatchConfig
from hardmil.config.study import InstanceConfig
from hardmil.encoders.open_encoder import encoder_of
from hardmil.encoders.torch_network import TorchEncoder
from hardmil.phantom.slide import draw_phantom, write_phantom
from hardmil.preprocessing.encoding import Files, encode_slides
from hardmil.preprocessing.patch_coords import write_patch_coords

TILE_PX = 1120
CONFIG = InstanceConfig(
    patches=PatchConfig(size_px=224, min_tissue=0.0, equalise="none"), encode="efficientnet-lite0"
)


def synthetic_slide(path: Path, *, megapixels: float) -> float:
    """Write a synthetic slide, the same tissue repeated, with aspect ratio 4:3; its megapixels."""
    unit = draw_phantom(7, lesion=True, look_alikes=True, width_px=TILE_PX, height_px=TILE_PX)
    columns = max(1, round((megapixels * 1e6 * 4 / 3) ** 0.5 / TILE_PX))
    rows = max(1, round(columns * 3 / 4))
    write_phantom(path, replace(unit, rgb=np.tile(unit.rgb, (rows, columns, 1)), regions=[]))
    return rows * columns * TILE_PX**2 / 1e6


def encode_once(slide: Path, encoder: TorchEncoder) -> tuple[int, float]:
    """The number of patches, and seconds without finding their coordinates."""
    with tempfile.TemporaryDirectory() as folder:
        coords = Path(folder) / "coords.h5"
        row = SlideRow("s", "s", None, slide, None)
        write_patch_coords(row, config=CONFIG.patches, path=coords)
        started = time.perf_counter()
        done = encode_slides(
            [row],
            config=CONFIG,
            encoder=encoder,
            files=lambda row: Files(coords, Path(folder) / "s.h5"),
            quiet=True,
        )
        seconds, n_patches = time.perf_counter() - started, done.results.get("s")
        if n_patches is None:
            sys.exit(done.failures[0].message)
        return n_patches, seconds


@torch.inference_mode()
def bare(encoder: TorchEncoder, n_patches: int) -> float:
    """Seconds of the network alone, with the precision and batch size of the encoder."""
    x = torch.randn(encoder.batch_size, 3, 224, 224, device=encoder.device)
    x = x.to(memory_format=torch.channels_last)
    kind = torch.device(encoder.device).type
    dtype = torch.float16 if encoder.half == "float16" else torch.bfloat16
    started = time.perf_counter()
    for start in range(0, n_patches, encoder.batch_size):
        with torch.autocast(kind, dtype=dtype, enabled=encoder.half is not None):
            encoder.network(x[: n_patches - start]).float().cpu()
    return time.perf_counter() - started


def peak_mb(slide: Path, device: str, precision: str) -> float:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import encoding; from pathlib import Path; "
        "e = encoding.encoder_of(encoding.CONFIG, device=sys.argv[3], precision=sys.argv[4]); "
        "encoding.encode_once(Path(sys.argv[2]), e); "
        "print(encoding.own_peak_mb())"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, here, str(slide), device, precision],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slide", type=Path, help="a real slide; default: a synthetic one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megapixels", type=float, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    encoder = encoder_of(CONFIG, device=options.device, precision=options.precision)
    assert isinstance(encoder, TorchEncoder)
    print(f"{options.device}, {encoder.half or 'float32'}, {torch.get_num_threads()} torch threads")
    with tempfile.TemporaryDirectory() as folder:
        slide = options.slide or Path(folder) / "synthetic.tif"
        if options.slide is None:
            synthetic_slide(slide, megapixels=options.megapixels)
        bare(encoder, encoder.batch_size)
        ratios: list[float] = []
        for _ in range(options.rounds):
            n_patches, seconds = encode_once(slide, encoder)
            alone = bare(encoder, n_patches)
            ratios.append(alone / seconds)
            megapixels = n_patches * 224 * 224 / 1e6
            print(
                f"{n_patches} patches: encode {n_patches / seconds:.1f}/s ({megapixels / seconds:.2f} MP/s), "
                f"bare network {n_patches / alone:.1f}/s, ratio {ratios[-1]:.3f}"
            )
        print(f"median ratio {statistics.median(ratios):.3f}")
        if options.slide is None:
            larger = Path(folder) / "larger.tif"
            area = synthetic_slide(larger, megapixels=4 * options.megapixels)
            small, large = (peak_mb(one, options.device, options.precision) for one in (slide, larger))
            print(f"peak memory: {small:.0f} MB; for a slide of {area:.0f} MP: {large:.0f} MB")
        else:
            print(f"peak memory of this process: {own_peak_mb():.0f} MB")


if __name__ == "__main__":
    main()
