"""One self-contained page a study: the comparison, what fooled the model, and how it was run."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup

from hardmil.files import write_atomically
from hardmil.jobs import Failure
from hardmil.metrics import MeanSE
from hardmil.report.gallery import GalleryPicture

COLUMNS = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f_score": "F-score",
    "auc": "AUC (fold mean)",
    "fpr": "FPR",
    "fpr_at_sens_90": "FPR at 0.90 sens. (pooled)",
    "fpr_at_sens_95": "FPR at 0.95 sens. (pooled)",
}
"""Keys of an arm's values, and what stands above them."""


@dataclass(frozen=True)
class ColumnGroup:
    """Columns under one heading; `narrow` follows each name where a narrow page has no room for headings."""

    heading: str
    columns: Mapping[str, str]
    narrow: str = ""


CLAIM = ColumnGroup(
    "Threshold set inside the training fold: the claim",
    {"fpr_op": "FPR", "sens_op": "Sensitivity"},
    " (claim)",
)
DESCRIPTIVE = ColumnGroup(
    "Threshold taken from the test scores: descriptive",
    {"fpr_at_sens_90": "FPR at 0.90 sens.", "fpr_at_sens_95": "FPR at 0.95 sens."},
    " (descriptive)",
)
AT_HALF = ColumnGroup(
    "Threshold 0.5",
    {"pooled_fpr": "FPR", "pooled_recall": "Sensitivity", "pooled_accuracy": "Accuracy"},
    " (at 0.5)",
)
WITHOUT_THRESHOLD = ColumnGroup("No threshold", {"pooled_auc": "AUC (pooled)"})
INTERVAL_GROUPS = (CLAIM, DESCRIPTIVE, AT_HALF, WITHOUT_THRESHOLD)
DIFFERENCE_GROUPS = (CLAIM, DESCRIPTIVE, WITHOUT_THRESHOLD)

CHART_COLUMN = "fpr_at_sens_95"
"""What the chart compares: how many normal slides are flagged once 95% of the others are found."""

LIMITS = (
    "Research use; not a medical device. No patient may be treated on the strength of this page.",
    "± is the standard error over repeats of the folds: how much the numbers move when the same slides "
    "are split anew, not how much they would move with other patients, scanners or stains.",
    "Differences no larger than their standard errors decide nothing.",
    "Attention says where the model looked, not why, and not whether it was right.",
    "A hard negative is named by a model: its slide is labelled negative, but nobody looked at the patch.",
)


@dataclass(frozen=True)
class ReportArm:
    """One row of the table of arms; `values` by the keys of COLUMNS.

    `mines` says whether the arm mines at all: only then are its counts shown. `hard_minus_random` holds, by
    the same keys, the arm minus its control, paired by repeat.
    """

    name: str
    values: Mapping[str, MeanSE]
    n_trials: int | None = None
    mines: bool = False
    n_false_positive_bags: int = 0
    n_hard: int = 0
    hard_minus_random: Mapping[str, MeanSE] | None = None
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval; `p`, of a difference, is that of no difference. Undefined is nan."""

    value: float
    low: float
    high: float
    p: float = math.nan


@dataclass(frozen=True)
class EstimateRow:
    """One arm, or one arm minus another; `values` by the keys of the column groups."""

    name: str
    values: Mapping[str, Estimate]
    note: str = ""


@dataclass(frozen=True)
class ReportIntervals:
    """Intervals by case of arms and of their differences; `notes` say what makes them too narrow."""

    n_cases: int
    n_resamples: int
    arms: Sequence[EstimateRow]
    differences: Sequence[EstimateRow] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class ReportTable:
    """Arms compared on the same folds of the same bags."""

    title: str
    arms: Sequence[ReportArm]
    intervals: ReportIntervals | None = None


@dataclass(frozen=True)
class ReportData:
    """What the study was made of; slides that failed are not counted in."""

    n_cases: int
    n_slides: int
    n_positive: int
    n_negative: int
    positive: str
    negative: str


@dataclass(frozen=True)
class AttentionPicture:
    """PNG of one slide and its attention; the caption also stands in for it where it cannot be seen."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Report:
    """All that stands on the page. `config` is YAML text; `run` is a run record."""

    title: str
    question: str
    data: ReportData
    tables: Sequence[ReportTable]
    config: str
    run: Mapping[str, object]
    failures: Sequence[Failure] = ()
    hard_negatives: Sequence[GalleryPicture] = ()
    n_hard_negatives: int | None = None
    attention: Sequence[AttentionPicture] = ()
    limits: Sequence[str] = field(default=LIMITS)


def write_report(path: Path, report: Report) -> None:
    """Write the page; it loads nothing from anywhere.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    page = render_report(report)
    with write_atomically(path) as draft:
        draft.write_text(page, encoding="utf-8")


def render_report(report: Report) -> str:
    """The page as text."""
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "signed": _signed, "data_uri": _data_uri, "share": _percent}
    return environment.get_template("report.html.jinja").render(
        report=report,
        columns=COLUMNS,
        style=Markup((here / "report.css").read_text(encoding="utf-8")),
        charts=[_chart(table) for table in report.tables],
        chart_column=COLUMNS[CHART_COLUMN],
        interval_groups=INTERVAL_GROUPS,
        difference_groups=DIFFERENCE_GROUPS,
        undefined=MeanSE(math.nan, math.nan, 0, 0),
        run=list(_flat(report.run)),
    )


@dataclass(frozen=True)
class _Bar:
    """One line of the chart; places are shares of its axis."""

    name: str
    value: float
    place: float
    low: float
    high: float


@dataclass(frozen=True)
class _Chart:
    """Bars on one axis from 0 to `top`; no bars if there is nothing to compare."""

    bars: list[_Bar]
    top: float


def _chart(table: ReportTable) -> _Chart:
    named = [(arm.name, arm.values[CHART_COLUMN]) for arm in table.arms if CHART_COLUMN in arm.values]
    defined = [(name, value) for name, value in named if not math.isnan(value.mean)]
    if len(defined) < 2:
        return _Chart([], 1.0)
    highest = max(value.mean + _se(value) for _, value in defined)
    top = next((top for top in (0.1, 0.2, 0.4, 0.6) if highest <= top), 1.0)
    return _Chart([_bar(name, value, top) for name, value in defined], top)


def _bar(name: str, value: MeanSE, top: float) -> _Bar:
    low, high = max(value.mean - _se(value), 0.0), min(value.mean + _se(value), top)
    return _Bar(name, value.mean, place=value.mean / top, low=low / top, high=high / top)


def _se(value: MeanSE) -> float:
    return 0.0 if math.isnan(value.se) else value.se


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    # U+2212: a hyphen is no minus, and lines break after it.
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "\u2212")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _flat(record: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """A record's leaves, nested names joined by a space; the config has its own place on the page."""
    rows: list[tuple[str, str]] = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key} ") if key != "config" else []
        else:
            rows.append((prefix + key, _cell(value)))
    return rows


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
