"""Which rule finds tissue: kept patches, lost lesions, and patches on glass, pen, fill, folds and blur.

    python benchmarks/tissue.py --data DIR   # our rules, about ten minutes
    python benchmarks/tissue.py --data DIR --rules "histolab 0.2.0"   # another package, if it is installed
    python benchmarks/tissue.py --table      # write docs/tissue.md from the kept rows

DIR holds the colon set, UCSB, GlaS and the CMU-1 region. Rows are kept in docs/tissue/results.csv.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.files.atomic import visible
from hardmil.files.csv_table import read_table, write_table
from hardmil.geometry import Downsample
from hardmil.paper.colon import colon_nuclei
from hardmil.phantom.slide import draw_phantom
from hardmil.phantom.tissue import outline
from hardmil.slides.grid import place_patches
from hardmil.slides.picture_source import Picture, PictureSource
from hardmil.slides.reader import open_slide
from hardmil.slides.resolution import Scale
from hardmil.slides.slide import Slide
from hardmil.slides.tissue import MAX_EDGE_PX, TissueMask

PAGE = Path(__file__).parents[1] / "docs" / "tissue.md"
ROWS = PAGE.parent / "tissue" / "results.csv"
PEN_KEPT = TissueConfig(drop_pen=False)
RULES = {
    "absorption": PatchConfig(),
    "absorption, pen kept": PatchConfig(tissue=PEN_KEPT),
    "absorption, no blur": PatchConfig(tissue=TissueConfig(drop_blurred=True)),
    "s-or-v (paper)": PatchConfig(tissue_rule="s-or-v", tissue=PEN_KEPT),
    "s-and-v": PatchConfig(tissue_rule="s-and-v", tissue=PEN_KEPT),
    "s": PatchConfig(tissue_rule="s", tissue=PEN_KEPT),
    "v": PatchConfig(tissue_rule="v", tissue=PEN_KEPT),
}
FEW = 2
GLASS, PALE = (243, 242, 244), (236, 206, 224)
INKS = {"blue": (30, 60, 200), "green": (20, 150, 60), "red": (210, 25, 40), "black": (25, 25, 30)}


@dataclass(frozen=True, eq=False)
class Case:
    """An open image and what is known of it: lesion nuclei as (x, y); masks of tissue and of an artefact."""

    slide: Slide
    mpp: float
    lesions: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), int))
    tissue: np.ndarray | None = None
    artefact: np.ndarray | None = None


@dataclass(frozen=True)
class TissueRow:
    """What a rule does with a set of images; a share is NaN where the set has nothing of the kind.

    `kept` is the share of all places of the grid. `lesion`, `tissue` and `artefact_kept` are the shares of
    lesion nuclei, of pixels of tissue and of pixels of the artefact inside a kept patch; `glass` and
    `artefact` those of the kept patches.
    """

    data: str
    patch_px: int
    rule: str
    images: int
    kept: float
    images_with_few: int
    lesion: float
    tissue: float
    glass: float
    artefact: float
    artefact_kept: float


def colon(data: Path) -> Iterator[Case]:
    folder = data / "CRCHistoPhenotypes_2016_04_28" / "Classification"
    for path in sorted(visible(folder.glob("*/*.bmp"))):
        with open_slide(path) as slide:
            yield Case(slide, mpp=0.55, lesions=colon_nuclei(path, kind="epithelial").astype(int))


def images(folder: Path, pattern: str, *, mpp: float) -> Iterator[Case]:
    for path in sorted(visible(folder.rglob(pattern))):
        with open_slide(path) as slide:
            yield Case(slide, mpp)


def synthetic(_: Path) -> Iterator[Case]:
    """Synthetic tissue and pale eosin on glass, at 1 um/px; plain, next to a pen mark, and in black fill."""
    for seed, ink in enumerate([None, *INKS, "fill"]):
        rng = np.random.default_rng(seed)
        rgb = np.full((2000, 2000, 3), GLASS, float)
        tissue, artefact = np.zeros((2, 2000, 2000), bool)
        drawn = draw_phantom(seed, lesion=True, look_alikes=True, width_px=4000, height_px=3000).rgb
        rgb[600:1350, 100:1100] = cv2.resize(drawn, (1000, 750), interpolation=cv2.INTER_AREA)
        rgb[700:1300, 1200:1900] = PALE
        tissue[700:1300, 1200:1900] = True
        if ink in INKS:
            artefact[100:400, 200:1800] = True
            rgb[artefact] = INKS[ink]
        rgb += rng.normal(0, 3, (2000, 2000, 1))
        if ink == "fill":
            artefact[:] = True
            artefact[550:1400, 50:1950] = False
            rgb[artefact] = 0
        pixels = rgb.round().clip(0, 255).astype(np.uint8)
        slide = Slide(Path(f"{ink}.png"), PictureSource(Picture(pixels, Scale(1.0, 1.0))))
        yield Case(slide, 1.0, tissue=tissue, artefact=artefact if ink else None)


def fold(_: Path) -> Iterator[Case]:
    """Synthetic tissue with a fold, 120 um wide: light passes the tissue twice."""
    for rgb, tissue in _drawn_tissue():
        artefact = np.zeros_like(tissue)
        artefact[:, 700:820] = tissue[:, 700:820]
        light = rgb / np.array(GLASS)
        over = np.where(artefact[..., None], light * np.roll(light, 150, axis=1), light) * GLASS
        yield _with_artefact(over, tissue=tissue, artefact=artefact)


def blur(_: Path) -> Iterator[Case]:
    """Synthetic tissue whose right half is out of focus, by a Gaussian blur of 3 um."""
    for rgb, tissue in _drawn_tissue():
        artefact = np.zeros_like(tissue)
        artefact[:, 750:] = tissue[:, 750:]
        blurred = np.where(artefact[..., None], cv2.GaussianBlur(rgb, (0, 0), 3), rgb)
        yield _with_artefact(blurred, tissue=tissue, artefact=artefact)


def _drawn_tissue() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """RGB of four synthetic slides at 1 um/px, and what is inside the outline of their tissue."""
    for seed in range(4):
        drawn = draw_phantom(seed, lesion=True, look_alikes=True, width_px=3000, height_px=2400).rgb
        rgb = cv2.resize(drawn, (1500, 1200), interpolation=cv2.INTER_AREA)
        # The outline is the first that `draw_phantom` draws.
        depth = outline(np.random.default_rng(seed), shape=(2400, 3000))
        yield rgb.astype(float), cv2.resize(depth, (1500, 1200), interpolation=cv2.INTER_AREA) > 0


def _with_artefact(rgb: np.ndarray, *, tissue: np.ndarray, artefact: np.ndarray) -> Case:
    """A case whose tissue is all but the artefact."""
    pixels = rgb.round().clip(0, 255).astype(np.uint8)
    slide = Slide(Path("synthetic.png"), PictureSource(Picture(pixels, Scale(1.0, 1.0))))
    return Case(slide, 1.0, tissue=tissue & ~artefact, artefact=artefact)


SETS = {
    "colon": (colon, (32, 64)),
    "UCSB": (lambda data: images(data / "ucsb_breast", "*.tif", mpp=0.5), (32, 224)),
    "GlaS": (lambda data: images(data / "glas", "*.jpg", mpp=0.62), (32, 112)),
    "CMU-1 region": (lambda data: images(data / "slides", "CMU-1-Small-Region.svs", mpp=0.499), (32, 224)),
    "synthetic": (synthetic, (32, 112)),
    "fold": (fold, (32, 112)),
    "blur": (blur, (32, 112)),
}


def _histolab(rgb: np.ndarray) -> np.ndarray:
    from histolab.filters.compositions import FiltersComposition
    from histolab.slide import Slide as HistolabSlide
    from PIL import Image

    return FiltersComposition(HistolabSlide).tissue_mask_filters(Image.fromarray(rgb))


def _hs2p(rgb: np.ndarray, *, method: str) -> np.ndarray:
    from hs2p.configs import SegmentationConfig
    from hs2p.segmentation import segment_tissue_image

    return segment_tissue_image(rgb, config=SegmentationConfig(method=method))


SEGMENTERS = {
    "histolab 0.2.0": _histolab,
    "hs2p 6.1.0, hsv": partial(_hs2p, method="hsv"),
    "hs2p 6.1.0, threshold": partial(_hs2p, method="threshold"),
}
"""Other packages; for their rows, `pip install histolab hs2p`."""
RULES |= dict.fromkeys(SEGMENTERS, PatchConfig())


def _tissue_of(slide: Slide, rule: str) -> TissueMask | None:
    """The tissue by another package, on a thumbnail of the size that ours is found on; None for our rules."""
    if rule not in SEGMENTERS:
        return None
    is_tissue = SEGMENTERS[rule](slide.thumbnail(MAX_EDGE_PX)).astype(bool)
    factors = Downsample.between((slide.width_px, slide.height_px), is_tissue.shape[::-1])
    return TissueMask(is_tissue, factors, 0, 0, 0)


def measure(
    name: str, cases: Iterable[Case], *, sizes: Sequence[int], rules: Sequence[str]
) -> list[TissueRow]:
    """The rows of a set: one for each rule and size of a patch."""
    found: dict[tuple[int, str], list[list[float]]] = {(size, rule): [] for size in sizes for rule in rules}
    for case in cases:
        rgb = case.slide.read(0, 0, case.slide.width_px, case.slide.height_px)
        for size, rule in found:
            found[size, rule].append(_counts(case, rgb, rule=rule, size=size))
    return [_row(name, size, rule, np.array(counts)) for (size, rule), counts in found.items()]


def _counts(case: Case, rgb: np.ndarray, *, rule: str, size: int) -> list[float]:
    """What is counted in an image, in the order of the names in `_row`; the last is NaN without artefact."""
    here = RULES[rule].model_copy(update={"size_px": size, "um_per_px": None})
    tissue = _tissue_of(case.slide, rule)
    coords = place_patches(case.slide, here, mpp=case.mpp, tissue=tissue).coords
    n_places = (case.slide.width_px // size) * (case.slide.height_px // size)
    is_kept = np.zeros(rgb.shape[:2], bool)
    n_glass = n_artefact = 0
    for x, y in coords:
        is_kept[y : y + size, x : x + size] = True
        n_glass += _is_glass(rgb[y : y + size, x : x + size])
        if case.artefact is not None:
            n_artefact += case.artefact[y : y + size, x : x + size].mean() > 0.5
    lesions = case.lesions[(case.lesions < [rgb.shape[1], rgb.shape[0]]).all(axis=1)]
    none = np.zeros_like(is_kept)
    known, artefact = (none if mask is None else mask for mask in (case.tissue, case.artefact))
    return [
        *(n_places, len(coords), len(coords) <= FEW),
        *(len(lesions), is_kept[lesions[:, 1], lesions[:, 0]].sum()),
        *(known.sum(), is_kept[known].sum(), n_glass),
        *(artefact.sum(), is_kept[artefact].sum()),
        np.nan if case.artefact is None else n_artefact,
    ]


def _is_glass(patch: np.ndarray) -> bool:
    """Bright and without structure; independent of the rules."""
    return bool(
        patch.min() > 200 and patch.mean(axis=(0, 1)).min() > 225 and patch.std(axis=(0, 1)).max() < 5
    )


def _row(name: str, size: int, rule: str, counts: np.ndarray) -> TissueRow:
    sums = np.nansum(counts, axis=0)
    places, kept, few, lesions, lesions_kept, tissue, tissue_kept, glass, spoilt, spoilt_kept, _ = sums
    with_artefact = counts[~np.isnan(counts[:, -1])]
    return TissueRow(
        *(name, size, rule, len(counts), kept / places, int(few)),
        lesion=lesions_kept / lesions if lesions else np.nan,
        tissue=tissue_kept / tissue if tissue else np.nan,
        glass=glass / kept if kept else np.nan,
        artefact=with_artefact[:, -1].sum() / with_artefact[:, 1].sum() if len(with_artefact) else np.nan,
        artefact_kept=spoilt_kept / spoilt if spoilt else np.nan,
    )


HEAD = f"""<!-- Generated by `python benchmarks/tissue.py --table`; do not edit. -->

# What counts as tissue

The default rule, `patches.tissue_rule: absorption`: the darkest of the three channels of a pixel is below
0.90 of the light of the glass (the value that 1% of the pixels reach, at least 200), and the pixel is not
black (a value below 30). Pen marks of at least 200 x 200 um are excluded where the resolution is known
(`patches.tissue.drop_pen`). A patch is kept if a quarter of it is tissue.

The paper's rule compares saturation and value with Otsu's thresholds of the image. Otsu always finds two
classes. Where an image is nearly all tissue, the two classes are dark and pale tissue, and pale tissue is
dropped; next to a pen mark, they are ink and everything else. `reproduce` keeps the paper's rule.

Each row is one rule on all images of a set, patches of `px` level-0 pixels without overlap. The
resolution is given; UCSB has none, 0.5 um/px was assumed.

- *kept*: share of all places; *few*: images with at most {FEW} patches.
- *lesion*: share of epithelial nuclei inside a kept patch (colon).
- *tissue*: share of known tissue inside a kept patch: a piece of pale eosin, {PALE} on glass of {GLASS}
  (synthetic), or all inside the outline of synthetic tissue that is not the artefact (fold, blur).
- *glass*: share of the kept patches that are bright and without structure.
- *artefact*: share of the kept patches that are mostly artefact; *artefact kept*: share of the artefact
  inside a kept patch. The artefact is pen (blue, green, red, black) or black fill (synthetic), a fold of
  120 um where light passes the tissue twice (fold), or half of the tissue, out of focus by a Gaussian
  blur of 3 um (blur).

The limit of 0.90 was chosen on colon, UCSB and GlaS among 0.80, 0.84, 0.87, 0.90 and 0.93 by the lesion
nuclei kept and by the pale eosin of the tests, which lets 0.88 through; 0.93 comes close to dust and
uneven light on glass, which let 0.92 through.

No rule recognises folds: they are dark, so every rule that keeps tissue keeps them, and those that need a
low value keep little else. Draw a fold as an annotation, and name its class in `patches.tissue.drop`.
`absorption, no blur` is the default with `patches.tissue.drop_blurred: true`, which is off unless it is
set, as it needs a known resolution and reads all tissue at 1 um/px.

## Other segmenters

*histolab* 0.2.0 and *hs2p* 6.1.0 (both Apache-2.0) can be installed with pip next to hardmil, without
torchvision; histolab 0.7.0 needs numpy below 1.25. Their rows are their own masks with their default
settings, on the image that our mask is made from; the defaults are meant for thumbnails of whole slides.
The `threshold` of hs2p is a fixed one on saturation. On real tissue, they keep about as much as the default
rule. On the synthetic slides, histolab, which uses Otsu's threshold, loses the pale eosin and keeps pen and
black fill; hs2p keeps the pale eosin and a part of the pen.

These were considered and not measured:

| package | licence | why not |
|---|---|---|
| TRIDENT 0.2.4 (HEST, GrandQC) | CC BY-NC-ND 4.0 | not permissive; needs torchvision; downloads weights |
| weights of GrandQC | CC BY-NC-SA 4.0 | not permissive; must be downloaded |
| CLAM | GPLv3, non-commercial academic | not permissive |
| hs2p, method `sam2` | code Apache-2.0 | downloads weights of AtlasPatch |
| atlas-patch 1.1.0 | CC BY-NC-SA 4.0 | not permissive; needs torchvision |
| pathml 3.0.8 | GPLv2 | not permissive |
| tiatoolbox 2.1.3 | BSD-3-Clause; weights have others | needs torchvision |
| lazyslide 0.13.0 | MIT | needs torchvision |
| slideflow 3.0.2 | Apache-2.0 | a dependency could not be built with Python 3.11 |
| HistoQC | not checked | cannot be installed with pip under this name |

Licences are those that the packages state, and for the weights of GrandQC, a page that distributes them
again.

## Figures
"""
HEADS = {
    "data": "set", "patch_px": "px", "rule": "rule", "images": "images", "kept": "kept",
    "images_with_few": "few", "lesion": "lesion", "tissue": "tissue", "glass": "glass",
    "artefact": "artefact", "artefact_kept": "artefact kept",
}  # fmt: skip


def table(rows: Sequence[TissueRow]) -> str:
    """The rows in Markdown."""
    lines = [f"| {' | '.join(HEADS.values())} |", f"|{'---|' * len(HEADS)}"]
    for row in rows:
        lines.append(f"| {' | '.join(_cell(getattr(row, name)) for name in HEADS)} |")
    return "\n".join([*lines, ""])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3f}"
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder that holds the sets")
    ours = [rule for rule in RULES if rule not in SEGMENTERS]
    parser.add_argument("--rules", nargs="+", choices=RULES, default=ours, metavar="RULE")
    parser.add_argument("--table", action="store_true", help="only write docs/tissue.md")
    options = parser.parse_args()
    if not options.table:
        if options.data is None:
            parser.error("expected --data DIR or --table")
        rows = [row for row in read_table(ROWS, TissueRow) if row.rule not in options.rules]
        for name, (cases, sizes) in SETS.items():
            rows += measure(name, cases(options.data), sizes=sizes, rules=options.rules)
            print(table(rows[-len(options.rules) * len(sizes) :]), flush=True)
        sets, rules = list(SETS), list(RULES)
        rows.sort(key=lambda row: (sets.index(row.data), row.patch_px, rules.index(row.rule)))
        ROWS.parent.mkdir(exist_ok=True)
        write_table(ROWS, rows, row=TissueRow)
    PAGE.write_text("\n".join([HEAD, table(read_table(ROWS, TissueRow))]), encoding="utf-8")


if __name__ == "__main__":
    main()
