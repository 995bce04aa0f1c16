"""report.html as one self-contained page: comparison of arms, hard negatives, and how it was run."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from hardmil.metrics import MeanSE
from hardmil.pictures.patch_pictures import GalleryPicture
from hardmil.report.page_data import (
    CLASS_GROUPS,
    COLUMNS,
    DIFFERENCE_GROUPS,
    INTERVAL_GROUPS,
    MEAN_GROUPS,
    RATES,
    STANDARD_ERRORS,
    ColumnGroup,
    Estimate,
    Report,
    ReportData,
    ReportRates,
)
from hardmil.report.templating import render_page, write_page

TIMES = {"seconds": "run time", "trial_seconds": "time in trials, summed"}
"""Keys of a run record with times in seconds, and their names."""

CRITERIA = {
    "auc": "AUC",
    "partial-auc": "AUC above 0.8 sensitivity",
    "fpr": "FPR at the wanted sensitivity",
}
"""What `auto` compares its candidates by, in words."""
MAX_DIAGNOSES = 20
"""Slides of one finding that are listed with numbers; the others only by name."""
RUN_WORDS = {"cpus": "CPU cores", "git dirty": "git, uncommitted changes"}
"""Names for keys of a run record."""


def write_report(path: Path, report: Report) -> None:
    """Write the page, which loads no other files.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    write_page(path, render_report(report))


def render_report(report: Report) -> str:
    """The page as text."""
    is_repeated = any(table.is_repeated for table in report.tables)
    return render_page(
        "report.html.jinja",
        report=report,
        sections=_sections(report),
        columns=COLUMNS,
        rates=RATES,
        criteria=CRITERIA,
        choice_cost=duration_text(report.choice_seconds),
        charts=[_chart(table.rates) for table in report.tables if table.rates],
        interval_groups=_mean_groups(report) if report.data.classes else INTERVAL_GROUPS,
        difference_groups=DIFFERENCE_GROUPS,
        class_groups=_called_groups(CLASS_GROUPS, data=report.data),
        limits=[*report.limits, *(STANDARD_ERRORS if is_repeated else ())],
        most_diagnoses=MAX_DIAGNOSES,
        undefined=MeanSE(math.nan, math.nan, 0, 0),
        groups=_by_cluster(report.hard_negatives, counts=report.n_by_cluster),
        run=list(_flat(report.run)),
    )


def _sections(report: Report) -> list[tuple[str, str]]:
    """Anchor and name of each section on the page, in order."""
    sections = [
        ("data", "Data", True),
        ("rates", "False positives", any(table.rates for table in report.tables)),
        ("arms", "Comparison", report.tables),
        ("classes", "By class", report.classes),
        ("choices", "What auto chose", report.choices),
        ("curves", "Curves and calibration", report.curves or report.calibration),
        ("confusion", "Slides behind the numbers", report.confusion),
        ("hard", "Hard negatives", True),
        ("attention", "Attention", report.attention),
        ("diagnoses", "Attention that looks wrong", report.diagnoses),
        ("limits", "Limits", True),
        ("run", "How it was run", True),
    ]
    return [(anchor, name) for anchor, name, is_there in sections if is_there]


def _mean_groups(report: Report) -> list[ColumnGroup]:
    """The groups of means over classes; kappa only where the classes are ordered."""
    left_out = () if report.data.is_ordered else ("kappa",)
    groups = [
        replace(one, columns={key: name for key, name in one.columns.items() if key not in left_out})
        for one in MEAN_GROUPS
    ]
    return _called_groups(groups, data=report.data)


def _called_groups(groups: Sequence[ColumnGroup], *, data: ReportData) -> list[ColumnGroup]:
    """The groups; in a multi-label study, there is no predicted class, but a call of each at 0.5."""
    if not data.is_multi_label:
        return list(groups)
    return [
        replace(
            one,
            heading=one.heading.replace("Predicted class", "Called at 0.5"),
            narrow=one.narrow.replace("predicted class", "called at 0.5"),
        )
        for one in groups
    ]


@dataclass(frozen=True)
class _Mark:
    """A rate on an axis, in shares of its length; without an interval, `low` and `high` equal `position`."""

    position: float
    low: float
    high: float


@dataclass(frozen=True)
class _Chart:
    """Marks by arm and rate on an axis from 0 to `top`; `before` is the mark of the base of a row."""

    top: float
    marks: Mapping[tuple[str, str], _Mark]
    before: Mapping[tuple[str, str], float]


def _chart(rates: ReportRates) -> _Chart:
    cells = {(row.name, key): row.values[key] for row in rates.rows for key in RATES if key in row.values}
    defined = {cell: one for cell, one in cells.items() if not math.isnan(one.value)}
    highest = max((_reach(one) for one in defined.values()), default=1.0)
    top = next((top for top in (0.1, 0.2, 0.4, 0.6) if highest <= top), 1.0)
    marks = {cell: _mark(one, top=top) for cell, one in defined.items()}
    base_of = {row.name: row.base for row in rates.rows}
    bases = {
        (name, key): marks[base, key].position
        for name, key in marks
        if (base := base_of[name]) != name and (base, key) in marks
    }
    return _Chart(top, marks, bases)


def _mark(one: Estimate, *, top: float) -> _Mark:
    low, high = (one.value if math.isnan(limit) else limit for limit in (one.low, one.high))
    return _Mark(one.value / top, low / top, high / top)


def _reach(one: Estimate) -> float:
    return one.value if math.isnan(one.high) else max(one.value, one.high)


def _by_cluster(
    pictures: Iterable[GalleryPicture], *, counts: Mapping[tuple[str, int], int]
) -> list[tuple[str, Sequence[GalleryPicture]]]:
    """Heading and pictures of each cluster of each class; pictures without a cluster last in their class.

    Without clusters and classes, all are one group without a heading.
    """
    # -1 would sort first, but pictures without a cluster come last.
    ordered = sorted(pictures, key=lambda one: (one.item.hard_for, one.item.cluster < 0, one.item.cluster))
    has_clusters = any(one.item.cluster >= 0 for one in ordered)
    if not has_clusters and not any(one.item.hard_for for one in ordered):
        return [("", ordered)] if ordered else []
    groups: list[tuple[str, Sequence[GalleryPicture]]] = []
    for key, members in groupby(ordered, key=lambda one: (one.item.hard_for, one.item.cluster)):
        here, (hard_for, cluster) = list(members), key
        n = counts.get(key, len(here))
        names = [f"Called {hard_for}"] if hard_for else []
        if has_clusters:
            names.append("not clustered" if cluster < 0 else f"cluster {cluster}")
        shown = "" if n == len(here) else f", {len(here)} shown"
        name = ", ".join(names)
        groups.append((f"{name[0].upper()}{name[1:]}: {n} patch{'' if n == 1 else 'es'}{shown}", here))
    return groups


def _flat(record: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """The values of a record, nested names joined by a space; without the config, shown elsewhere."""
    rows: list[tuple[str, str]] = []
    for key, value in record.items():
        name = prefix + key
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name} ") if key != "config" else []
        elif name in TIMES and isinstance(value, int | float):
            rows.append((TIMES[name], duration_text(value)))
        else:
            rows.append((RUN_WORDS.get(name, name), _cell(value)))
    return rows


def duration_text(seconds: float | int) -> str:
    """A time as text: "8.2 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == []:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
