"""A made-up report, filled as a command would; HARDMIL_SAMPLE_REPORT=path keeps it to be looked at."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hardmil.geojson import Region
from hardmil.jobs import Failure
from hardmil.metrics import MeanSE
from hardmil.report.gallery import GalleryItem, GalleryPicture, draw_item
from hardmil.report.heatmap import SlideAttention, attention_figure
from hardmil.report.html import (
    COLUMNS,
    DIFFERENCE_GROUPS,
    INTERVAL_GROUPS,
    AttentionPicture,
    Estimate,
    EstimateRow,
    Report,
    ReportArm,
    ReportData,
    ReportIntervals,
    ReportTable,
    render_report,
    write_report,
)
from hardmil.slides.phantom import draw_phantom
from hardmil.slides.reader import open_slide

VOID = {"meta", "img", "br", "link", "input", "hr"}
NAN = MeanSE(math.nan, math.nan, 0, 3)


def _values(start: float, step: float = 0.011) -> dict[str, MeanSE]:
    means = [start, start + 0.03, start - 0.02, start + 0.004, start + 0.05]
    rates = [1 - start, 1.3 - 1.2 * start, 1.5 - 1.3 * start]
    values = [*means, *rates]
    return {
        key: MeanSE(m, step + i / 997, 3, 0) for i, (key, m) in enumerate(zip(COLUMNS, values, strict=True))
    }


def _arms() -> list[ReportArm]:
    difference = {key: MeanSE(-0.021 + i / 101, 0.013, 3, 0) for i, key in enumerate(COLUMNS)}
    return [
        ReportArm("ours", _values(0.861), n_trials=15),
        ReportArm("ours+fmb", _values(0.861), n_trials=15, mines=True),
        ReportArm(
            "ours+fmb-oof",
            _values(0.893) | {"precision": MeanSE(0.9, 0.02, 2, 1)},
            n_trials=15,
            mines=True,
            n_false_positive_bags=41,
            n_hard=612,
            hard_minus_random=difference,
        ),
        ReportArm(
            "ours+fmb-oof@random",
            _values(0.884) | {"fpr": NAN},
            n_trials=15,
            mines=True,
            n_false_positive_bags=41,
            n_hard=612,
        ),
        ReportArm("ours+instance", _values(0.902), n_trials=15),
    ]


WARNING = "The cases are fields of few patients: the intervals are too narrow."


def _estimates(value: float, groups: tuple, *, p: float = math.nan) -> dict[str, Estimate]:
    keys = [key for group in groups for key in group.columns]
    return {
        key: Estimate(value + i / 91, value + i / 91 - 0.083, value + i / 91 + 0.107, p)
        for i, key in enumerate(keys)
    }


def _intervals() -> ReportIntervals:
    unknown = {"fpr_op": Estimate(math.nan, math.nan, math.nan), "sens_op": Estimate(0.9, math.nan, math.nan)}
    return ReportIntervals(
        n_cases=38,
        n_resamples=2000,
        arms=[
            EstimateRow("ours", _estimates(0.31, INTERVAL_GROUPS)),
            EstimateRow("ours+fmb-oof", _estimates(0.22, INTERVAL_GROUPS)),
            EstimateRow("ours+fmb-oof@random", _estimates(0.27, INTERVAL_GROUPS) | unknown),
            EstimateRow("ours+instance", _estimates(0.18, INTERVAL_GROUPS)),
        ],
        differences=[
            EstimateRow("ours+fmb-oof minus ours", _estimates(-0.091, DIFFERENCE_GROUPS, p=0.213)),
            EstimateRow("ours+instance minus ours", _estimates(-0.132, DIFFERENCE_GROUPS, p=0.004)),
            EstimateRow(
                "ours+fmb-oof minus ours+fmb-oof@random",
                _estimates(-0.052, DIFFERENCE_GROUPS, p=0.418)
                | {"fpr_op": Estimate(math.nan, math.nan, math.nan)},
                note="hard minus random",
            ),
        ],
        notes=[WARNING],
    )


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Report:
    import tifffile

    pictures, attention = [], []
    for seed in (3, 5):
        drawn = draw_phantom(seed, lesion=seed == 5, look_alikes=True)
        path = tmp_path_factory.mktemp("slides") / f"slide_{seed:03d}.tif"
        tifffile.imwrite(path, drawn.rgb, photometric="rgb", tile=(128, 128))
        pictures += _pictures(path, drawn.regions)
        attention.append(_attention(path.stem, drawn.rgb, drawn.regions, drawn.mpp))
    return Report(
        title="Lesion or normal: made-up slides",
        question="Does mining hard negatives lower the share of normal slides that are called positive?",
        data=ReportData(38, 40, 19, 21, positive="lesion", negative="normal"),
        tables=[ReportTable("5 folds by case, 3 repeats", _arms(), _intervals())],
        config="seed: 0\npatches:\n  size_px: 32\nmining:\n  use: fmb\n  source: out-of-fold\n",
        run={
            "command": "hardmil evaluate study.yaml",
            "versions": {"hardmil": "0.1.0", "torch": "2.13.0"},
            "config": {"hidden": "here"},
            "seed": 0,
            "git": {"commit": "dd4eb68", "dirty": False},
            "seconds": 412.7,
        },
        failures=[Failure("slide_017", "slide_017.svs: there is no such file; check the path column", "...")],
        hard_negatives=pictures,
        n_hard_negatives=612,
        attention=attention,
    )


def _pictures(path: Path, regions: list[Region]) -> list[GalleryPicture]:
    corners = [np.rint(region.polygon.mean(axis=0) - 16).astype(int).tolist() for region in regions[:4]]
    items = [
        GalleryItem(
            path.stem, x, y, 32, 0.031 / (i + 1), 0.93 - i / 30, i % 4, 1, "out-of-fold", "ours+fmb-oof"
        )
        for i, (x, y) in enumerate(corners)
    ]
    with open_slide(path) as slide:
        return [draw_item(item, slide=slide) for item in items]


def _attention(slide_id: str, rgb: np.ndarray, truth: list[Region], mpp: float) -> AttentionPicture:
    x, y = np.meshgrid(np.arange(0, rgb.shape[1] - 31, 32), np.arange(0, rgb.shape[0] - 31, 32))
    coords = np.stack([x.ravel(), y.ravel()], axis=1)
    darkness = np.array([255 - rgb[y : y + 32, x : x + 32].mean() for x, y in coords])
    coords, weights = coords[darkness > 25], np.exp(darkness[darkness > 25] / 8)
    slide = SlideAttention(slide_id, "lesion", 0.913, coords, 32, weights / weights.sum(), mpp, truth)
    return AttentionPicture(
        attention_figure(slide, thumbnail=rgb, downsample=1.0), f"{slide_id}: bag score 0.913"
    )


class _Page(HTMLParser):
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


def _cells(page: _Page, name: str) -> list[str]:
    return next(row[1:] for row in page.rows if row[0].startswith(name))


def _numbers(cell: str) -> list[float]:
    return [float(number.replace("−", "-")) for number in re.findall(r"[+−]?\d+\.\d+", cell)]


def test_sample(sample: Report, tmp_path: Path):
    path = Path(os.environ.get("HARDMIL_SAMPLE_REPORT", tmp_path / "report.html"))
    write_report(path, sample)
    assert _Page(path.read_text(encoding="utf-8")).text.count(sample.title) == 2


def test_every_number_of_the_table_is_the_one_given(sample: Report):
    page = _Page(render_report(sample))
    for arm in sample.tables[0].arms:
        cells = _cells(page, arm.name)
        for cell, key in zip(cells, COLUMNS, strict=False):
            value = arm.values[key]
            if math.isnan(value.mean):
                assert "not defined" in cell
            else:
                assert _numbers(cell) == [round(value.mean, 3), round(value.se, 3)]
        assert cells[8] == "15"
        assert cells[9:] == ([str(arm.n_false_positive_bags), str(arm.n_hard)] if arm.mines else ["–", "–"])


def test_hard_minus_random_is_a_line_of_its_own_with_signs(sample: Report):
    page = _Page(render_report(sample))
    cells = _cells(page, "hard minus random")
    difference = sample.tables[0].arms[2].hard_minus_random
    assert difference is not None
    for cell, value in zip(cells, difference.values(), strict=False):
        assert _numbers(cell) == [round(value.mean, 3), 0.013]
    assert cells[0].startswith("−0.021")
    assert cells[3].startswith("+0.009")
    assert sum(row[0].startswith("hard minus random") for row in page.rows) == 1


def test_every_interval_and_every_difference_is_the_one_given(sample: Report):
    page, given = _Page(render_report(sample)), _intervals()
    rows = {row[0]: row[1:] for row in page.rows if len(row) in (6, 9)}
    for row, groups in [
        *((row, INTERVAL_GROUPS) for row in given.arms),
        *((row, DIFFERENCE_GROUPS) for row in given.differences),
    ]:
        keys = [key for group in groups for key in group.columns]
        for cell, key in zip(rows[row.name + row.note], keys, strict=True):
            one = row.values[key]
            expected = [value for value in (one.value, one.low, one.high, one.p) if not math.isnan(value)]
            assert _numbers(cell) == [round(value, 3) for value in expected]
            assert ("not defined" in cell) == math.isnan(one.value)
    assert "−0.091 −0.174 to +0.016 p 0.213" in rows["ours+fmb-oof minus ours"]
    assert "0.310 0.227 to 0.417" in rows["ours"]


def test_the_page_says_which_rate_is_the_claim_and_what_an_interval_covers(sample: Report):
    page = _Page(render_report(sample))
    headings = [cell for row in page.rows for cell in row]
    assert headings.count("Threshold set inside the training fold: the claim") == 2
    assert headings.count("Threshold taken from the test scores: descriptive") == 2
    assert headings.count("AUC (fold mean)") == 1
    assert headings.count("AUC (pooled)") == 2
    assert page.text.count(WARNING) == 1
    assert "the 38 cases are drawn anew 2,000 times" in page.text
    assert "not what training again" in page.text
    without = _Page(render_report(replace(sample, tables=[ReportTable("t", _arms())])))
    assert "How sure the numbers are" not in without.text
    alone = replace(_intervals(), differences=[])
    no_pairs = _Page(render_report(replace(sample, tables=[ReportTable("t", _arms(), alone)])))
    assert "How sure the numbers are" in no_pairs.text
    assert "Which arm is better" not in no_pairs.text


def test_undefined_values_and_folds_left_out_are_said(sample: Report):
    page = _Page(render_report(sample))
    assert _cells(page, "ours+fmb-oof@random")[5] == "– not defined"
    precision = next(row for row in page.rows if row[0].strip() == "ours+fmb-oof")[2]
    assert "(1 undefined)" in precision


def test_an_arm_that_mined_nothing_says_so(sample: Report):
    page = _Page(render_report(sample))
    [row] = [row for row in page.rows if row[0].startswith("ours+fmb") and "mined nothing" in row[0]]
    assert row[-2:] == ["0", "0"]
    assert page.text.count("mined nothing: the same as its base") == 1


def test_nothing_mined_at_all(sample: Report):
    arms = [replace(arm, mines=False) for arm in _arms()[:1]]
    report = replace(
        sample,
        tables=[ReportTable("t", arms)],
        hard_negatives=[],
        n_hard_negatives=0,
        attention=[],
        failures=[],
    )
    page = _Page(render_report(report))
    assert "None were mined" in page.text
    unplaced = _Page(render_report(replace(report, n_hard_negatives=7)))
    assert "7 were mined; their feature files do not say where patches lie" in unplaced.text
    assert "Instances mined" not in page.text
    assert "What failed" not in page.text


def test_pictures_have_words_and_places(sample: Report):
    page = _Page(render_report(sample))
    images = page.attributes("img")
    assert len(images) == 2 * len(sample.hard_negatives) + 2
    assert all(image["alt"] for image in images)
    item = sample.hard_negatives[0].item
    assert f"Patch of slide {item.slide_id}, ({item.x}, {item.y})" in [image["alt"] for image in images]
    assert f"{item.slide_id} ({item.x}, {item.y})" in page.text
    assert "Shown: 8 of 612." in page.text


def test_a_page_of_hard_negatives_alone(sample: Report):
    page = _Page(render_report(replace(sample, tables=[])))
    assert "Comparison" not in page.text
    assert "Hard negatives" in page.text


def test_an_item_without_a_picture_says_why(sample: Report):
    bare = GalleryPicture(sample.hard_negatives[0].item, None, None, "no path for this slide")
    page = _Page(render_report(replace(sample, hard_negatives=[bare], attention=[])))
    assert page.attributes("img") == []
    assert "No picture: no path for this slide" in page.text


def test_the_page_loads_nothing_and_is_marked_up(sample: Report):
    text = render_report(sample)
    page = _Page(text)
    assert not re.search(r"https?:|url\(|@import|<script|<link", text)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.attributes("img"))
    assert page.attributes("html") == [{"lang": "en"}]
    assert {cell["scope"] for cell in page.attributes("th")} == {"row", "col", "colgroup"}
    assert len(page.attributes("h1")) == 1
    targets = {attributes["id"] for attributes in page.attributes("h2")}
    assert {attributes["aria-labelledby"] for attributes in page.attributes("section")} == targets
    labels = {cell.get("data-label") for cell in page.attributes("td")} - {None}
    grouped = {name + group.narrow for group in INTERVAL_GROUPS for name in group.columns.values()}
    assert labels == set(page.rows[0]) - {"Arm"} | grouped


def test_limits_config_and_run_stand_on_the_page(sample: Report):
    page = _Page(render_report(sample))
    assert page.text.count("Research use; not a medical device.") == 2
    assert sample.config in page.text
    for words in ("versions torch", "2.13.0", "git commit", "dd4eb68", "seconds", "412.7"):
        assert words in page.text
    assert "hidden" not in page.text
    assert "slide_017.svs: there is no such file" in page.text


HOSTILE = '<b>"x"</b>&<script>alert(1)</script>'


@pytest.mark.parametrize(
    "spoil",
    [
        lambda report: replace(report, title=HOSTILE, question=HOSTILE, config=HOSTILE),
        lambda report: replace(report, run={HOSTILE: HOSTILE}, limits=[HOSTILE]),
        lambda report: replace(report, failures=[Failure(HOSTILE, HOSTILE, "")]),
        lambda report: replace(report, attention=[replace(report.attention[0], caption=HOSTILE)]),
        lambda report: replace(report, data=replace(report.data, positive=HOSTILE, negative=HOSTILE)),
        lambda report: replace(report, tables=[ReportTable(HOSTILE, [ReportArm(HOSTILE, {}, note=HOSTILE)])]),
        lambda report: replace(
            report,
            tables=[
                ReportTable(
                    "t",
                    _arms(),
                    ReportIntervals(9, 2000, [EstimateRow(HOSTILE, {}, note=HOSTILE)], notes=[HOSTILE]),
                )
            ],
        ),
        lambda report: replace(
            report,
            hard_negatives=[
                replace(picture, item=replace(picture.item, slide_id=HOSTILE))
                for picture in report.hard_negatives
            ],
        ),
    ],
)
def test_ids_are_escaped(sample: Report, spoil: Callable[[Report], Report]):
    text = render_report(spoil(sample))
    page = _Page(text)
    assert page.attributes("script") == []
    assert HOSTILE in page.text
    assert HOSTILE not in text


def test_chart_places_dots_by_value_and_needs_two_arms(sample: Report):
    page = _Page(render_report(sample))
    dots = [span for span in page.attributes("span") if span.get("class") == "dot"]
    means = [arm.values["fpr_at_sens_95"].mean for arm in sample.tables[0].arms]
    assert [dot["style"] for dot in dots] == [f"left:{100 * mean / 0.4:.1f}%" for mean in means]
    assert "00.20.4" in page.text  # the axis
    one = replace(sample, tables=[ReportTable("t", _arms()[:1])])
    assert 'class="dot"' not in render_report(one)
