"""Figure of docs/false-positives.md: FPR against the number of verdicts a positive bag.

Used by benchmarks/false_positives.py. The rows are those of benchmarks/reproduction.py.
"""

from pathlib import Path

import matplotlib
import numpy as np
from false_positive_tables import POSITIVE
from matplotlib.figure import Figure
from reproduction_runs import BUDGETS, CHOICES, KEPT, VERDICTS, WITHOUT_VERDICTS, is_curve

from hardmil.evaluation.results import PredictionRow, key_of
from hardmil.files.csv_table import read_table
from hardmil.statistics.intervals import Interval, intervals, resample_arms
from hardmil.statistics.pooled_predictions import pool_predictions

METRIC = "fpr_at_sens_90"
COLOURS = {
    "attention": "#0b6aa8",
    "random": "#8a939b",
    "uncertainty": "#b3541e",
    "spread": "#3f7d4e",
    "disagreement": "#7a4a9e",
}


def curve() -> dict[str, list[tuple[int, Interval]]]:
    """FPR at 0.90 sensitivity of each choice of patches, by verdicts a positive bag."""
    rows = [
        row
        for row in read_table(KEPT / "colon" / "predictions.csv", PredictionRow)
        if is_curve(key_of(row)) and key_of(row).arm in (WITHOUT_VERDICTS, *VERDICTS)
    ]
    drawn = resample_arms(pool_predictions(rows, positive=POSITIVE["colon"]), seed=0)
    found = {one.arm: one for one in intervals(drawn) if one.metric == METRIC}
    names = {
        choice: {0: WITHOUT_VERDICTS, **{n: f"{WITHOUT_VERDICTS}+verdicts-{n}-{choice}" for n in BUDGETS}}
        for choice in CHOICES
    }
    return {
        choice: [(n, found[name]) for n, name in of_choice.items()]
        for choice, of_choice in names.items()
        if all(name in found for name in of_choice.values())
    }


def draw(path: Path) -> None:
    """SVG: a line for each choice; the interval is that of `attention`, those of the others are as wide."""
    matplotlib.rcParams["svg.hashsalt"] = "hardmil"
    drawing = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = drawing.subplots()
    for number, (choice, points) in enumerate(curve().items()):
        budgets, values = [n for n, _ in points], [one.value for _, one in points]
        beside = np.arange(len(budgets)) + 0.04 * (number - 2)  # equal values do not hide each other
        axes.plot(beside, values, "o-", color=COLOURS[choice], label=choice, markersize=4)
        if choice == "attention":
            low, high = [one.low for _, one in points], [one.high for _, one in points]
            axes.fill_between(range(len(budgets)), low, high, color=COLOURS[choice], alpha=0.1, linewidth=0)
        axes.set_xticks(range(len(budgets)), [str(n) for n in budgets])
    axes.set_xlabel("verdicts a positive bag", fontsize=9)
    axes.set_ylabel("FPR at 0.90 sensitivity", fontsize=9)
    axes.set_ylim(0, None)
    axes.grid(axis="y", color="#d5dadf", linewidth=0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8, length=0)
    axes.legend(loc="upper right", frameon=False, fontsize=8, title="patches chosen by", title_fontsize=8)
    drawing.savefig(path, format="svg", metadata={"Date": None})
