"""Files that prediction writes for each slide: attention, tiles for QuPath, heat maps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hardmil.bags.bag import Bag
from hardmil.bags.slide_table import SlideRow
from hardmil.bundles.shown_classes import class_folders, predicted_branch, relative_branch, shown_branches
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.evaluation.attention_file import write_attention
from hardmil.files.atomic import write_atomically
from hardmil.files.geojson import Region, square, write_regions
from hardmil.mil.bag_score import BagScore
from hardmil.pictures.bag_heatmap import draw_heatmap, write_bag_heatmap_tiff
from hardmil.pictures.heatmap import HeatmapQuantity, Scale, SlideAttention
from hardmil.pictures.slide_pictures import SlidePictures, slide_pictures
from hardmil.slides.reader import open_slide, origin_of
from hardmil.slides.slide import Slide

N_KEY_PATCHES = 10
KEY_SHARE = 4
"""At most every fourth patch of a slide is a key patch."""
"""Number of patches with the most attention that get their own class in QuPath."""


@dataclass(frozen=True)
class HeatmapOptions:
    """Which heat maps to draw; `tiff` adds a pyramidal OME-TIFF that overlays the slide.

    `of_class`, with more than two classes, is the class whose attention is drawn, or all; None: the predicted
    one.
    """

    quantity: HeatmapQuantity = "attention"
    scale: Scale = "rank"
    png: bool = True
    tiff: bool = False
    of_class: str | None = None


def write_slide_files(
    output: Path,
    row: SlideRow,
    *,
    bag: Bag,
    score: BagScore,
    classes: Sequence[str],
    task: TaskConfig = TWO_CLASSES,
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
    names = () if task.is_binary else task.branch_names
    write_attention(output / "attention" / f"{row.slide_id}.h5", [bag], scores=[score], class_names=names)
    if bag.size_level0_px == 0:
        return None
    tiles = output / "geojson" / f"{row.slide_id}.geojson"
    _write_tiles(tiles, bag, score=score, task=task, origin=origin_of(row.path))
    if not (heatmaps.png or heatmaps.tiff) or row.path is None or not row.path.exists():
        return None
    shown = partial(shown_branches, bag, row, score=score, classes=classes, task=task)
    with open_slide(row.path) as slide:
        for one in shown(wanted=heatmaps.of_class):
            to = output / "heatmaps" / one.folder / row.slide_id
            _draw(to, slide, one.attention, heatmaps=heatmaps, fallback_mpp=fallback_mpp)
        small = shown()[0].attention
        return slide_pictures(slide, small) if wants_small and heatmaps.png else None


def _draw(
    to: Path, slide: Slide, attention: SlideAttention, *, heatmaps: HeatmapOptions, fallback_mpp: float | None
) -> None:
    """Draw the heat maps that are wanted; `to` is their path without suffix."""
    quantity, scale = heatmaps.quantity, heatmaps.scale
    if heatmaps.png:
        png = draw_heatmap(slide, attention, quantity=quantity, scale=scale, fallback_mpp=fallback_mpp)
        with write_atomically(to.with_name(f"{to.name}.png")) as draft:
            draft.write_bytes(png)
    if heatmaps.tiff:
        write_bag_heatmap_tiff(
            to.with_name(f"{to.name}.ome.tiff"),
            slide,
            attention,
            quantity=quantity,
            scale=scale,
            fallback_mpp=fallback_mpp,
        )


def _write_tiles(path: Path, bag: Bag, *, score: BagScore, task: TaskConfig, origin: tuple[int, int]) -> None:
    """Every patch as a QuPath tile with the model's output; those with most attention are `key patch`.

    With more than two classes, each tile has the output of every branch, and key patches are those of the
    predicted class.
    """
    n_key = min(N_KEY_PATCHES, math.ceil(len(bag) / KEY_SHARE))
    key = set(np.argsort(-score.attention, kind="stable")[:n_key].tolist())
    key_name = "key patch"
    if task.names:
        key_name += f" for {task.branch_titles[predicted_branch(score, task=task)]}"
    columns = _columns(score, task=task)
    regions = [
        Region(
            square(int(x), int(y), size=bag.size_level0_px),
            name=key_name if i in key else "patch",
            measurements={name: float(values[i]) for name, values in columns.items()},
        )
        for i, (x, y) in enumerate(bag.coords)
    ]
    write_regions(path, regions, object_type="tile", origin=origin)


def obs_columns(score: BagScore, *, task: TaskConfig) -> dict[str, Float[np.ndarray, " _"]]:
    """The same as columns of an AnnData table; with more than two classes, their names end with the class."""
    if task.is_binary:
        return {f"hardmil_{name}": values for name, values in _outputs(score).items()}
    return {
        f"hardmil_{name}_{title}": values
        for branch, title in enumerate(class_folders(task.branch_names))
        for name, values in _outputs(relative_branch(score, branch=branch, task=task)).items()
    }


def _columns(score: BagScore, *, task: TaskConfig) -> dict[str, Float[np.ndarray, " _"]]:
    """The output of the model for each patch, by name; with more than two classes, of every branch."""
    if task.is_binary:
        return _outputs(score)
    return {
        f"{name} for {title}": values
        for branch, title in enumerate(task.branch_titles)
        for name, values in _outputs(relative_branch(score, branch=branch, task=task)).items()
    }


def _outputs(score: BagScore) -> dict[str, Float[np.ndarray, " _"]]:
    columns = {"attention": score.attention, "instance_logit": score.instance_logit}
    return columns if score.contribution is None else columns | {"contribution": score.contribution}
