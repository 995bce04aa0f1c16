"""A report with everything on it, and its page taken apart."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hardmil.evaluation.results import TrialKey
from hardmil.files.geojson import Region
from hardmil.geometry import Downsample, Frame
from hardmil.jobs.failures import Failure
from hardmil.metrics import MeanSE
from hardmil.phantom.slide import draw_phantom
from hardmil.pictures.curve_figures import (
    CurveLine,
    ReliabilityLine,
    precision_figure,
    reliability_figure,
    roc_figure,
)
from hardmil.pictures.heatmap import SlideAttention, attention_figure
from hardmil.pictures.patch_pictures import GalleryItem, GalleryPicture, draw_item
from hardmil.pictures.slide_pictures import SlidePictures, slide_pictures
from hardmil.report.page_data import (
    COLUMNS,
    DIFFERENCE_GROUPS,
    INTERVAL_GROUPS,
    RATES,
    AttentionPicture,
    CalledSlide,
    Confusion,
    Drawing,
    Estimate,
    EstimateRow,
    Exclusion,
    LabelCount,
    RateRow,
    Report,
    ReportArm,
    ReportData,
    ReportIntervals,
    ReportRates,
    ReportTable,
    SlideDiagnosis,
)
from hardmil.slides.reader import open_slide
from hardmil.statistics.choices import CandidateSummary, ChoiceSummary, TrialChoice

VOID = {"meta", "img", "br", "link", "input", "hr"}
NAN = MeanSE(math.nan, math.nan, 0, 3)


def sample_choices() -> ChoiceSummary:
    trials = [
        TrialChoice(TrialKey("auto", "case", "grid", 0, fold), "ours-top5", 0.93, "abmil", ahead, 0.02)
        for fold, ahead in enumerate((0.031, 0.004, 0.012))
    ]
    candidates = [
        CandidateSummary("ours", 0, 0.902, 0.028),
        CandidateSummary("ours-top5", 3, 0.93, 0.0),
        CandidateSummary("abmil", 0, 0.914, 0.016),
    ]
    return ChoiceSummary("auc", trials, candidates)


def sample_values(start: float, step: float = 0.011) -> dict[str, MeanSE]:
    means = [start, start + 0.03, start - 0.02, start + 0.004, start + 0.05]
    rates = [1 - start, 1.3 - 1.2 * start, 1.5 - 1.3 * start]
    values = [*means, *rates]
    return {
        key: MeanSE(m, step + i / 997, 3, 0) for i, (key, m) in enumerate(zip(COLUMNS, values, strict=True))
    }


def sample_arms() -> list[ReportArm]:
    difference = {key: MeanSE(-0.021 + i / 101, 0.013, 3, 0) for i, key in enumerate(COLUMNS)}
    return [
        ReportArm("ours", sample_values(0.861), n_trials=15),
        ReportArm("ours+fmb", sample_values(0.861), n_trials=15, mines=True),
        ReportArm(
            "ours+fmb-oof",
            sample_values(0.893) | {"precision": MeanSE(0.9, 0.02, 2, 1)},
            n_trials=15,
            mines=True,
            n_false_positive_bags=41,
            n_hard=612,
            hard_minus_random=difference,
        ),
        ReportArm(
            "ours+fmb-oof@random",
            sample_values(0.884) | {"fpr": NAN},
            n_trials=15,
            mines=True,
            n_false_positive_bags=41,
            n_hard=612,
        ),
        ReportArm("ours+instance", sample_values(0.902), n_trials=15),
    ]


P_NOTE = "p at a fixed sensitivity is conservative."
WARNING = "The cases are fields of few patients: the intervals are too narrow."


def sample_estimates(value: float, groups: tuple, *, p: float = math.nan) -> dict[str, Estimate]:
    keys = [key for group in groups for key in group.columns]
    return {
        key: Estimate(value + i / 91, value + i / 91 - 0.083, value + i / 91 + 0.107, p)
        for i, key in enumerate(keys)
    }


def sample_intervals() -> ReportIntervals:
    unknown = {"fpr_op": Estimate(math.nan, math.nan, math.nan), "sens_op": Estimate(0.9, math.nan, math.nan)}
    return ReportIntervals(
        n_cases=38,
        n_resamples=20_000,
        arms=[
            EstimateRow("ours", sample_estimates(0.31, INTERVAL_GROUPS)),
            EstimateRow("ours+fmb-oof", sample_estimates(0.22, INTERVAL_GROUPS)),
            EstimateRow("ours+fmb-oof@random", sample_estimates(0.27, INTERVAL_GROUPS) | unknown),
            EstimateRow("ours+instance", sample_estimates(0.18, INTERVAL_GROUPS)),
        ],
        differences=[
            EstimateRow("ours+fmb-oof minus ours", sample_estimates(-0.091, DIFFERENCE_GROUPS, p=0.213)),
            EstimateRow("ours+instance minus ours", sample_estimates(-0.132, DIFFERENCE_GROUPS, p=0.004)),
            EstimateRow(
                "ours+fmb-oof minus ours+fmb-oof@random",
                sample_estimates(-0.052, DIFFERENCE_GROUPS, p=0.418)
                | {"fpr_op": Estimate(math.nan, math.nan, math.nan)},
                note="hard minus random",
            ),
        ],
        notes=[WARNING],
        p_note=P_NOTE,
    )


def sample_rates() -> ReportRates:
    rows = [
        RateRow(one.name, role, {key: one.values[key] for key in (*RATES, "sens_op")}, base="ours")
        for one, role in zip(
            sample_intervals().arms,
            ("does not mine", "mines", "control: patches drawn at random", "does not mine"),
            strict=True,
        )
    ]
    return ReportRates(
        rows, ["ours+fmb-oof: false-positive rate 0.091 lower than without mining."], p_note=P_NOTE
    )


def sample_confusion(pictures: SlidePictures, mined: list[GalleryPicture]) -> Confusion:
    """Three false positives, of which the last has no pictures; one false negative; three called rightly."""
    called = [
        ("fp1", "normal", "lesion", 0.91),
        ("fp2", "normal", "lesion", 0.74),
        ("fp3", "normal", "lesion", 0.66),
        ("fn1", "lesion", "normal", 0.31),
        ("tp1", "lesion", "lesion", 0.97),
        ("tp2", "lesion", "lesion", 0.88),
        ("tn1", "normal", "normal", 0.12),
    ]
    slides = [CalledSlide(name, label, call, score, 0.6) for name, label, call, score in called]
    for i in (0, 1, 3):
        slides[i] = replace(slides[i], pictures=pictures)
    slides[0] = replace(slides[0], mined="12 of its patches were mined.", mined_pictures=mined)
    slides[2] = replace(slides[2], why_not="left out to keep the page small")
    return Confusion("ours+fmb-oof", "the operating point", 3, slides)


def sample_drawings() -> tuple[list[Drawing], Drawing]:
    grid = np.linspace(0, 1, 101)
    lines = [
        CurveLine(name, grid, grid**power, grid ** (1.5 * power), grid ** (0.6 * power))
        for name, power in (("ours", 0.3), ("ours+fmb-oof", 0.2), ("ours+fmb-oof@random", 0.25))
    ]
    share = np.array([0.05, 0.2, 0.5, 0.8, np.nan])
    counts = np.array([20, 8, 3, 9, 0])
    bins = [ReliabilityLine(name, share, share**2, counts) for name in ("calibrated", "raw")]
    return (
        [
            Drawing(roc_figure(lines), "ROC curves", "ROC."),
            Drawing(precision_figure(lines, share_positive=0.5), "Precision-recall curves", "PR."),
        ],
        Drawing(reliability_figure(bins, positive="lesion"), "Reliability", "Calibration."),
    )


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Report:
    import tifffile

    pictures, attention = [], []
    for seed in (3, 5):
        drawn = draw_phantom(seed, lesion=seed == 5, look_alikes=True)
        path = tmp_path_factory.mktemp("slides") / f"slide_{seed:03d}.tif"
        tifffile.imwrite(path, drawn.rgb, photometric="rgb", tile=(128, 128))
        pictures += sample_pictures(path, drawn.regions)
        shown = sample_shown(path.stem, drawn.rgb, drawn.regions, drawn.mpp)
        figure = attention_figure(shown, thumbnail=drawn.rgb, frame=Frame(0, 0, Downsample(1.0, 1.0)))
        attention.append(AttentionPicture(figure, f"{path.stem}: bag score 0.913"))
    with open_slide(path) as slide:
        small = slide_pictures(slide, shown)
    curves, calibration = sample_drawings()
    return Report(
        title="Lesion or normal: synthetic slides",
        question="Does mining hard negatives lower the share of normal slides that are called positive?",
        data=ReportData(
            38,
            40,
            positive="lesion",
            negative="normal",
            labels=[LabelCount("normal", 20, 21, 41_370), LabelCount("lesion", 18, 19, 38_002)],
            exclusions=[Exclusion("slide_044", "no patch")],
        ),
        tables=[ReportTable("5 folds by case, 3 repeats", sample_arms(), sample_intervals(), sample_rates())],
        config="seed: 0\npatches:\n  size_px: 32\nmining:\n  use: fmb\n  source: out-of-fold\n",
        run={
            "command": "hardmil evaluate study.yaml",
            "versions": {"hardmil": "0.1.0", "torch": "2.13.0"},
            "config": {"hidden": "here"},
            "seed": 0,
            "git": {"commit": "dd4eb68", "dirty": False},
            "seconds": 412.7,
        },
        choices=sample_choices(),
        choice_seconds=754.0,
        failures=[Failure("slide_017", "slide_017.svs: there is no such file; check the path", "...")],
        curves=curves,
        calibration=calibration,
        confusion=sample_confusion(small, pictures[:2]),
        hard_negatives=pictures,
        n_hard_negatives=612,
        n_by_cluster={("", number): n for number, n in enumerate((300, 200, 100, 12))},
        attention=attention,
        diagnoses=[
            *(
                SlideDiagnosis(f"slide_{i:03}", "collapsed", "It is flat.", "train for longer")
                for i in range(23)
            ),
            SlideDiagnosis("slide_003", "inverted", "It points away.", "check the label"),
        ],
    )


def sample_pictures(path: Path, regions: list[Region]) -> list[GalleryPicture]:
    corners = [np.rint(region.polygon.mean(axis=0) - 16).astype(int).tolist() for region in regions[:4]]
    items = [
        GalleryItem(
            path.stem, x, y, 32, 0.031 / (i + 1), 0.93 - i / 30, i % 4, 1, "out-of-fold", "ours+fmb-oof"
        )
        for i, (x, y) in enumerate(corners)
    ]
    with open_slide(path) as slide:
        return [draw_item(item, slide=slide) for item in items]


def sample_shown(slide_id: str, rgb: np.ndarray, truth: list[Region], mpp: float) -> SlideAttention:
    x, y = np.meshgrid(np.arange(0, rgb.shape[1] - 31, 32), np.arange(0, rgb.shape[0] - 31, 32))
    coords = np.stack([x.ravel(), y.ravel()], axis=1)
    darkness = np.array([255 - rgb[y : y + 32, x : x + 32].mean() for x, y in coords])
    coords, weights = coords[darkness > 25], np.exp(darkness[darkness > 25] / 8)
    return SlideAttention(slide_id, "lesion", 0.913, coords, 32, weights / weights.sum(), mpp, truth)


class Page(HTMLParser):
    """Elements with their attributes, text in order; fails on a tag closed out of turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def cells_of(page: Page, name: str) -> list[str]:
    """The cells of an arm's row in the table of metrics, the widest there is."""
    return next(row[1:] for row in page.rows if row[0].startswith(name) and len(row) > len(COLUMNS) + 1)


def numbers_in(cell: str) -> list[float]:
    return [float(number.replace("−", "-")) for number in re.findall(r"[+−]?\d+\.\d+", cell)]
