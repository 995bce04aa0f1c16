"""Files that prediction writes for each slide: attention, tiles for QuPath, heat maps."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.slide_table import SlideRow
from hardmil.evaluation.attention_file import write_attention
from hardmil.files.atomic import write_atomically
from hardmil.files.geojson import Region, square, write_regions
from hardmil.mil.inference import BagScore
from hardmil.pictures.bag_heatmap import draw_heatmap, slide_attention, write_bag_heatmap_tiff
from hardmil.pictures.heatmap import HeatmapQuantity, Scale
from hardmil.pictures.slide_pictures import SlidePictures, slide_pictures
from hardmil.slides.reader import open_slide, origin_of

N_KEY_PATCHES = 10
KEY_SHARE = 4
"""At most every fourth patch of a slide is a key patch."""
"""Number of patches with the most attention that get their own class in QuPath."""


@dataclass(frozen=True)
class HeatmapOptions:
    """Which heat maps to draw; `tiff` adds a pyramidal OME-TIFF that overlays the slide."""

    quantity: HeatmapQuantity = "attention"
    scale: Scale = "rank"
    png: bool = True
    tiff: bool = False


def write_slide_files(
    output: Path,
    row: SlideRow,
    *,
    bag: Bag,
    score: BagScore,
    classes: tuple[str, str],
    heatmaps: HeatmapOptions,
    fallback_mpp: float | None,
    wants_small: bool,
) -> SlidePictures | None:
    """Write the attention of one slide; if its coordinates are known, also GeoJSON and heat maps.

    Returns small pictures for the page of key patches, if they are wanted and possible.

    Raises:
        SlideError: If the slide cannot be read, or a patch is outside it.
        ConfigError: If heat maps show contributions and the pooling of the model has none.
    """
    write_attention(output / "attention" / f"{row.slide_id}.h5", [bag], scores=[score])
    if bag.size_level0_px == 0:
        return None
    _write_tiles(output / "geojson" / f"{row.slide_id}.geojson", bag, score=score, origin=origin_of(row.path))
    if not (heatmaps.png or heatmaps.tiff) or row.path is None or not row.path.exists():
        return None
    attention = slide_attention(
        bag,
        attention=score.attention,
        bag_score=score.bag_score,
        label=row.label,
        mpp=row.mpp,
        contribution=score.contribution,
        classes=classes,
    )
    to = output / "heatmaps"
    with open_slide(row.path) as slide:
        if heatmaps.png:
            png = draw_heatmap(
                slide, attention, quantity=heatmaps.quantity, scale=heatmaps.scale, fallback_mpp=fallback_mpp
            )
            with write_atomically(to / f"{row.slide_id}.png") as draft:
                draft.write_bytes(png)
        if heatmaps.tiff:
            write_bag_heatmap_tiff(
                to / f"{row.slide_id}.ome.tiff",
                slide,
                attention,
                quantity=heatmaps.quantity,
                scale=heatmaps.scale,
                fallback_mpp=fallback_mpp,
            )
        return slide_pictures(slide, attention) if wants_small and heatmaps.png else None


def _write_tiles(path: Path, bag: Bag, *, score: BagScore, origin: tuple[int, int]) -> None:
    """Every patch as a QuPath tile with the model's output; those with most attention are `key patch`."""
    n_key = min(N_KEY_PATCHES, math.ceil(len(bag) / KEY_SHARE))
    key = set(np.argsort(-score.attention, kind="stable")[:n_key].tolist())
    columns = {"attention": score.attention, "instance_logit": score.instance_logit}
    if score.contribution is not None:
        columns["contribution"] = score.contribution
    regions = [
        Region(
            square(int(x), int(y), size=bag.size_level0_px),
            name="key patch" if i in key else "patch",
            measurements={name: float(values[i]) for name, values in columns.items()},
        )
        for i, (x, y) in enumerate(bag.coords)
    ]
    write_regions(path, regions, object_type="tile", origin=origin)
