"""Parts of the report: which hard negatives are shown, what is said of mining, each slide read once."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardmil.files.csv_table import Row
from hardmil.pictures.heatmap import SlideAttention
from hardmil.pictures.patch_pictures import GalleryItem
from hardmil.report import slide_drawings as report_slides
from hardmil.report.curves import arms_drawn, calibration_drawing
from hardmil.report.hard_negatives import hard_negatives_shown
from hardmil.report.intervals import report_rates
from hardmil.report.slide_drawings import NO_PATH, NO_ROOM, PictureRequest, draw_slides
from hardmil.slides.reader import open_slide
from hardmil.slides.slide import Slide
from hardmil.statistics.comparisons import Comparison
from hardmil.statistics.intervals import Interval
from hardmil.statistics.tables import Statistics


def row(slide: int, instance: int, cluster: int, *, fold: int = 0, arm: str = "ours+fmb") -> Row:
    values = {
        **{"arm": arm, "repeat": "0", "fold": fold, "round": 1, "slide_id": f"s{slide}"},
        **{"instance": instance, "x": 32 * instance, "y": 0, "size_level0": 32, "cluster": cluster},
        **{"attention": 1 / (1 + instance), "bag_score": 0.7, "source": "out-of-fold"},
    }
    return {key: str(value) for key, value in values.items()}


def test_shown_hard_negatives_are_spread_over_clusters_and_slides():
    rows = [row(slide, instance, instance % 3) for slide in range(4) for instance in range(9)]
    shown = hard_negatives_shown(rows, most=12)
    assert [item.cluster for item in shown.items] == [0, 1, 2] * 4
    for cluster in range(3):
        assert {item.slide_id for item in shown.items if item.cluster == cluster} == {"s0", "s1", "s2", "s3"}
    assert shown.n_by_cluster == {0: 12, 1: 12, 2: 12}
    assert shown.training == "arm ours+fmb, repeat 0, fold 0"


def test_clusters_of_different_trainings_are_not_mixed():
    rows = [row(0, 0, 1), row(1, 0, 1, fold=1), row(2, 1, 1, fold=1), row(3, 0, 1, arm="ours+fmb-oof")]
    shown = hard_negatives_shown(rows, arm="ours+fmb")
    assert {item.slide_id for item in shown.items} == {"s1", "s2"}
    assert shown.training == "arm ours+fmb, repeat 0, fold 1"
    assert [item.slide_id for item in hard_negatives_shown(rows, arm="ours+fmb-oof").items] == ["s3"]
    assert len(hard_negatives_shown(rows, arm="ours").items) == 2
    loose = [row(0, 0, -1), row(1, 0, -1, fold=1), row(1, 0, -1, fold=2)]
    assert (len(hard_negatives_shown(loose).items), hard_negatives_shown(loose).training) == (2, "")
    assert hard_negatives_shown([]).items == []


def statistics(metric: str = "fpr_op", *, p: float = 0.2, difference: float = -0.1) -> Statistics:
    arms = ("abmil", "ours+fmb", "ours", "ours+fmb@random", "ours+instance")
    intervals = [Interval(name, "case", "grid", metric, 0.3, 0.2, 0.4, 9, 1) for name in arms]
    limits = (difference - 0.1, difference + 0.2)
    comparisons = [
        Comparison("ours+fmb", other, "case", "grid", metric, difference, *limits, p, p)
        for other in ("ours", "ours+fmb@random")
    ]
    return Statistics([], intervals, comparisons, [])


def test_what_is_said_of_mining():
    rates = report_rates(statistics(), split="case", patches="grid")
    assert rates is not None
    assert [one.name for one in rates.rows] == [
        *("abmil", "ours", "ours+instance", "ours+fmb", "ours+fmb@random"),
    ]
    assert [one.role[:7] for one in rates.rows] == ["does no"] * 3 + ["mines", "control"]
    assert rates.findings == [
        "ours+fmb, at the threshold set in training: false-positive rate 0.100 lower (−0.200 to +0.100; "
        "p 0.200, which may be chance) than without mining; 0.100 lower (−0.200 to +0.100; p 0.200, which "
        "may be chance) than its control."
    ]
    clear = report_rates(statistics("fpr_at_sens_95", p=0.01, difference=0.3), split="case", patches="grid")
    assert clear is not None
    assert "at sensitivity 0.95: false-positive rate 0.300 higher" in clear.findings[0]

    assert "p 0.010, a clear difference" in clear.findings[0]
    unknown = report_rates(statistics(difference=math.nan), split="case", patches="grid")
    assert unknown is not None
    assert unknown.findings == []
    assert report_rates(statistics(), split="image", patches="grid") is None


def test_arms_that_never_differ_are_said_to_be_the_same():
    found = statistics(difference=0.0)
    level = [replace(one, low=0.0, high=0.0, p=1.0, p_holm=1.0) for one in found.comparisons]
    rates = report_rates(replace(found, comparisons=level), split="case", patches="grid")
    assert rates is not None
    same = "the same as {} in every draw of cases"
    assert rates.findings[0].endswith(f"{same.format('without mining')}; {same.format('its control')}.")


def test_of_many_arms_the_curves_show_the_base_the_arm_and_its_control():
    few = ["ours", "ours+sb", "ours+sb@random", "mean"]
    assert arms_drawn(few, arm="ours+sb") == few
    many = [*few, "ours+fmb", "ours+fmb@random", "max"]
    assert arms_drawn(many, arm="ours+fmb") == ["ours", "ours+fmb", "ours+fmb@random"]
    assert arms_drawn(many, arm="mean") == ["mean"]


def prediction(repeat: int, label: str, score: float, probability: float) -> Row:
    values = {"arm": "ours", "repeat": repeat, "label": label, "bag_score": score, "prob_$x": probability}
    return {key: str(value) for key, value in values.items()}


def test_calibration_shows_one_line_where_nothing_was_calibrated():
    raw = [prediction(i, label, 0.75, 0.75) for i in range(2) for label in ("$x", "no")]
    drawn = calibration_drawing(raw, arm="ours", positive="$x")
    assert drawn is not None
    assert "Bag score: calibration error 0.250, Brier score 0.312" in drawn.caption
    assert "Nothing was calibrated" in drawn.caption
    assert "0.75, 0.50, 4" in drawn.alt
    both = calibration_drawing([one | {"prob_$x": "0.5"} for one in raw], arm="ours", positive="$x")
    assert both is not None
    assert "Calibrated probability: calibration error 0.000, Brier score 0.250" in both.caption
    assert "raw bag score: calibration error 0.250" in both.caption
    assert calibration_drawing(raw, arm="mean", positive="$x") is None


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path | None]:
    rng = np.random.default_rng(0)
    found: dict[str, Path | None] = {"nowhere": None, "gone": tmp_path / "gone.png"}
    for name in ("a", "b"):
        picture = rng.integers(90, 200, (400, 640, 3)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        found[name] = tmp_path / f"{name}.png"
    return found


def wish(name: str) -> PictureRequest:
    coords = np.array([[0, 0], [320, 64], [64, 320], [600, 360], [32, 32]])
    attention = np.array([0.1, 0.5, 0.2, 0.15, 0.05])
    item = GalleryItem(name, 320, 64, 32, 0.5, 0.9, 0, 1, "out-of-fold", "ours+fmb")
    shown = SlideAttention(name, "normal", 0.9, coords, 32, attention)
    return PictureRequest(name, shown, small=True, large=True, items=[item], mined=[item])


def test_each_slide_is_opened_once_for_all_its_pictures(paths: dict[str, Path | None], monkeypatch):
    opened: list[str] = []

    def counted(path: Path) -> Slide:
        opened.append(path.stem)
        return open_slide(path)

    monkeypatch.setattr(report_slides, "open_slide", counted)
    found = draw_slides([wish(name) for name in ("a", "b", "gone", "nowhere")], paths=paths)
    assert opened == ["a", "b", "gone"]
    small = found["a"].small
    assert small is not None
    assert (small.width, small.height) == (360, 225)
    assert [(one.x, one.y) for one in small.key_patches] == [(320, 64), (64, 320), (600, 360), (0, 0)]
    assert found["a"].large is not None
    assert [one.surroundings for one in found["a"].mined] == [None]
    assert "gone.png" in found["gone"].why_not
    assert found["nowhere"].why_not == NO_PATH
    assert [one.why_not for one in found["nowhere"].items.values()] == [NO_PATH]


def test_small_pictures_end_where_the_room_ends(paths: dict[str, Path | None]):
    found = draw_slides([wish("a"), wish("b")], paths=paths, most_bytes=1)
    assert found["a"].small is not None
    assert found["b"].small is None
    assert found["b"].why_not == NO_ROOM
    assert found["b"].large is not None, "one large picture has its own place"
