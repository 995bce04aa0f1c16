"""Tables and figure of docs/false-positives, from kept rows. Used by benchmarks/false_positives.py."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hardmil.bootstrap import percentile_limits
from hardmil.commands.arms_table import short
from hardmil.evaluation.results import ChoiceRow, PredictionRow, ResultRow, TrialKey, key_of
from hardmil.files.csv_table import read_table
from hardmil.metrics import mean_and_se
from hardmil.statistics.choices import summarise_choices
from hardmil.statistics.intervals import Interval, ResampledArm, intervals, mean_of_defined, resample_arms
from hardmil.statistics.pooled_predictions import pool_predictions
from hardmil.statistics.weighted_metrics import RESAMPLED

BASE = "ours"
POSITIVE = {
    "colon": "epithelial",
    "ucsb": "malignant",
    "glas": "malignant",
    "foci": "positive",
    "demo": "positive",
}
TITLES = {
    "colon": "colon by group",
    "ucsb": "UCSB by stem",
    "glas": "GlaS by patient",
    "foci": "synthetic: rare foci",
    "demo": "synthetic: look-alikes",
}
MARGIN = 0.05
"""An arm with a lower sensitivity than this below `ours` has not won, whatever its FPR."""


@dataclass(frozen=True, eq=False)
class SetRows:
    """The kept rows of one set, and its arms resampled by case."""

    name: str
    results: Sequence[ResultRow]
    arms: Mapping[str, ResampledArm]
    limits: Mapping[tuple[str, str], Interval]

    @property
    def repeats(self) -> Mapping[str, int]:
        """Repeats of each arm."""
        return {arm: one.observed.shape[1] for arm, one in self.arms.items()}


def read_set(folder: Path, *, name: str, repeats: int | None = None) -> SetRows | None:
    """The rows of a set, of the first repeats or of all; None if it has none.

    Arms with fewer repeats than others are compared on those.
    """
    wanted = range(repeats) if repeats else None
    results = [row for row in read_table(folder / "results.csv", ResultRow) if _is_in(row.trial, wanted)]
    if not results:
        return None
    predictions = read_table(folder / "predictions.csv", PredictionRow)
    pooled = pool_predictions(
        [row for row in predictions if _is_in(key_of(row), wanted)], positive=POSITIVE[name]
    )
    drawn = resample_arms(pooled, seed=0)
    limits = {(one.arm, one.metric): one for one in intervals(drawn)}
    return SetRows(name, results, {one.key.arm: one for one in drawn}, limits)


def _is_in(trial: TrialKey, repeats: range | None) -> bool:
    return repeats is None or trial.repeat in repeats


def set_table(rows: SetRows, *, order: Sequence[str]) -> list[str]:
    """Markdown: the numbers of each arm on one set."""
    heads = ["arm", "FPR@op", "sensitivity@op", "FPR@90", "FPR@95", "AUC", "instance AUC", "repeats", "min"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for arm in _present(rows.arms, order):
        own = [row for row in rows.results if row.trial.arm == arm]
        minutes = sum(row.seconds for row in own) / 60 / rows.repeats[arm]
        cells = cells_of(rows, arm)
        instance = short(mean_and_se(row.instance_auc for row in own).mean)
        lines.append(_line([f"`{arm}`", *cells, instance, str(rows.repeats[arm]), f"{minutes:.0f}"]))
    return lines


def cells_of(rows: SetRows, arm: str) -> list[str]:
    """The numbers of an arm with their intervals."""
    names = ("fpr_op", "sens_op", "fpr_at_sens_90", "fpr_at_sens_95", "pooled_auc")
    return [_with_limits(rows.limits[arm, name]) for name in names]


@dataclass(frozen=True)
class Combined:
    """An arm minus another, mean over sets: FPR at the operating point and sensitivity there."""

    arm: str
    n_sets: int
    fpr: tuple[float, float, float]
    sensitivity: tuple[float, float, float]

    @property
    def has_fewer(self) -> bool:
        """Whether false positives are fewer and sensitivity is not lower by more than the margin."""
        return self.fpr[2] < 0 and self.sensitivity[1] > -MARGIN


def combined(sets: Sequence[SetRows], *, order: Sequence[str]) -> list[Combined]:
    """Each arm minus `ours`, over all sets that have both."""
    found = (_combined(sets, arm=arm, other=BASE) for arm in order if arm != BASE)
    return [one for one in found if one is not None]


def against_control(sets: Sequence[SetRows], *, order: Sequence[str]) -> list[Combined]:
    """Each arm that has a random control minus this control, over all sets that have both."""
    found = (_combined(sets, arm=arm, other=f"{arm}@random") for arm in order)
    return [one for one in found if one is not None]


def _combined(sets: Sequence[SetRows], *, arm: str, other: str) -> Combined | None:
    """An arm minus another; cases are resampled within each set."""
    here = [rows for rows in sets if arm in rows.arms and other in rows.arms]
    if not here:
        return None
    fpr, sensitivity = (
        _combined_difference(here, arm, other, metric=metric) for metric in ("fpr_op", "sens_op")
    )
    return Combined(arm, len(here), fpr, sensitivity)


def _combined_difference(
    sets: Sequence[SetRows], arm: str, other: str, *, metric: str
) -> tuple[float, float, float]:
    i = RESAMPLED.index(metric)
    observed, drawn = [], []
    for rows in sets:
        one, base = rows.arms[arm], rows.arms[other]
        n = min(one.observed.shape[1], base.observed.shape[1])
        observed.append(mean_of_defined(one.observed[i, :n] - base.observed[i, :n]))
        drawn.append(mean_of_defined(one.resampled[i, :n] - base.resampled[i, :n], axis=0))
    n_cases = sum(rows.arms[arm].n_cases for rows in sets)
    low, high = percentile_limits(np.mean(drawn, axis=0), n_cases=n_cases)
    return float(np.mean(observed)), low, high


def combined_table(rows: Iterable[Combined], *, other: str = "`ours`") -> list[str]:
    """Markdown: the combined differences, arms on most sets first, then lowest FPR first."""
    heads = [f"arm minus {other}", "sets", "FPR@op", "sensitivity@op", "fewer false positives"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for one in sorted(rows, key=lambda one: (-one.n_sets, one.fpr[0])):
        cells = [_signed(one.fpr), _signed(one.sensitivity)]
        lines.append(_line([f"`{one.arm}`", str(one.n_sets), *cells, "yes" if one.has_fewer else ""]))
    return lines


def choices_table(folder: Path) -> list[str]:
    """Markdown: how often `auto` took each candidate on a set."""
    summary = summarise_choices(read_table(folder / "choices.csv", ChoiceRow))
    if summary is None:
        return []
    heads = ["candidate", "taken", "AUC out of fold", "below the best"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    n = len(summary.trials)
    for one in summary.candidates:
        cells = [f"{one.n_chosen} of {n}", short(one.value), short(one.below_best)]
        lines.append(_line([f"`{one.candidate}`", *cells]))
    return [*lines, "", f"More than one standard error ahead of all others: {summary.n_clear} of {n} trials."]


def figure(rows_of_sets: Sequence[Sequence[SetRows]], *, order: Sequence[str], path: Path) -> None:
    """SVG: FPR at the operating point with its interval; of the arms that all sets of a row have."""
    matplotlib.rcParams["svg.hashsalt"] = "hardmil"
    rows_of_sets = [sets for sets in rows_of_sets if sets]
    arms = [[arm for arm in order if all(arm in rows.arms for rows in sets)] for sets in rows_of_sets]
    heights = [0.27 * len(names) + 1.1 for names in arms]
    n_columns = max(map(len, rows_of_sets))
    drawing = Figure(figsize=(3.1 * n_columns + 1.6, sum(heights)), layout="constrained")
    parts = drawing.subfigures(len(arms), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, sets, names in zip(parts, rows_of_sets, arms, strict=True):
        panels = part.subplots(1, n_columns, sharey=True, squeeze=False)[0]
        for axes, rows in zip_longest(panels, sets):
            if rows is None:
                axes.set_visible(False)
            else:
                _panel(axes, rows, names=names)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -1.5)
    drawing.savefig(path, format="svg", metadata={"Date": None})


def _panel(axes: Axes, rows: SetRows, *, names: Sequence[str]) -> None:
    """The arms of one set; the sensitivity that each reaches stands on the right."""
    for position, arm in enumerate(names):
        one, found = rows.limits[arm, "fpr_op"], rows.limits[arm, "sens_op"]
        colour = "#0b6aa8" if arm == "auto" else "#1f2428"
        axes.plot([one.low, one.high], [position] * 2, color=colour, linewidth=1.4)
        axes.plot([one.value], [position], "o", color=colour, markersize=5)
        axes.text(1.04, position, short(found.value), va="center", fontsize=8, color="#566069")
    axes.set_title(TITLES[rows.name], fontsize=10, color="#1f2428", loc="left")
    axes.text(1.04, -1, "sens.", va="center", fontsize=8, color="#566069")
    axes.set_xlim(-0.02, 1.0)
    axes.set_xlabel("FPR at the operating point", fontsize=9)
    axes.grid(axis="x", color="#d5dadf", linewidth=0.5)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8, length=0)


def _present(arms: Mapping[str, ResampledArm], order: Sequence[str]) -> list[str]:
    return [arm for arm in order if arm in arms] + [arm for arm in arms if arm not in order]


def _with_limits(one: Interval) -> str:
    if math.isnan(one.low):
        return short(one.value)
    return f"{short(one.value)} [{short(one.low)}, {short(one.high)}]"


def _signed(values: tuple[float, float, float]) -> str:
    value, low, high = (f"{value:+.3f}" for value in values)
    return f"{value} [{low}, {high}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
