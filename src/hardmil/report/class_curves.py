"""The curves on report.html where there are more than two classes."""

from collections.abc import Sequence

import numpy as np

from hardmil.config.task import TaskConfig
from hardmil.evaluation.evaluation import Evaluation
from hardmil.evaluation.results import PredictionRow, key_of
from hardmil.pictures.curve_figures import STYLES, CurveLine, roc_figure
from hardmil.report.curves import reliability_drawing
from hardmil.report.page_data import Drawing
from hardmil.statistics.class_predictions import branches_of, pool_classes
from hardmil.statistics.curve_bands import GRID, N_BAND_RESAMPLES, arm_curves
from hardmil.statistics.tables import Statistics


def class_curve_drawings(
    predictions: Sequence[PredictionRow], *, arm: str, statistics: Statistics, evaluation: Evaluation
) -> list[Drawing]:
    """The ROC curve of each class of an arm against the rest, a few in each figure.

    An empty list if the arm has no predictions.
    """
    task = evaluation.task
    pooled = {key.arm: repeats for key, repeats in pool_classes(predictions, task=task).items()}
    if arm not in pooled:
        return []
    found = {
        name: arm_curves(repeats, seed=evaluation.seed).roc
        for name, repeats in branches_of(pooled[arm], task=task).items()
    }
    titles = dict(zip(task.branch_names, task.branch_titles, strict=True))
    words = {name: _label(titles[name], arm=arm, statistics=statistics.of(name)) for name in found}
    lines = [
        CurveLine(words[name], GRID, band.value, band.low, band.high)
        for name, band in found.items()
        if not np.isnan(band.value).all()
    ]
    against = "" if task.multi_label else ", each against the rest"
    return [
        Drawing(
            roc_figure(lines[first : first + len(STYLES)]),
            "ROC curves, sensitivity against false-positive rate: "
            + "; ".join(line.name for line in lines[first : first + len(STYLES)]),
            f"ROC of {arm} by class{against}. Up and to the left is better; dotted: chance. "
            f"Bands: 95% by case, pointwise, {N_BAND_RESAMPLES} resamples.",
        )
        for first in range(0, len(lines), len(STYLES))
    ]


def class_calibration_drawing(
    predictions: Sequence[PredictionRow], *, arm: str, task: TaskConfig
) -> Drawing | None:
    """How often the most likely class is right, by its probability; None if the arm has no predictions.

    In a multi-label study: how often slides have a class, by its probability, over all classes.

    Source: Guo et al. 2017, who measure the calibration of many classes in this way.
    """
    rows = [row for row in predictions if key_of(row).arm == arm]
    if not rows:
        return None
    n_asked = task.n_classes if task.multi_label else 1
    columns: dict[str, tuple[list[float], list[int]]] = {}
    for name, values in (
        ("calibrated probability", [row.probabilities for row in rows]),
        ("raw score", [row.scores for row in rows]),
    ):
        asked = [task.names if task.multi_label else [max(one, key=one.__getitem__)] for one in values]
        columns[name] = (
            [one[key] for one, keys in zip(values, asked, strict=True) for key in keys],
            [int(_has(row, key, task=task)) for row, keys in zip(rows, asked, strict=True) for key in keys],
        )
    if np.allclose(columns["raw score"][0], columns["calibrated probability"][0], atol=1e-6):
        del columns["calibrated probability"]
    return reliability_drawing(
        columns,
        repeats=np.repeat([key_of(row).repeat for row in rows], n_asked).tolist(),
        arm=f"{arm}, {'all classes' if task.multi_label else 'most likely class'}",
        positive="of this class",
    )


def _has(row: PredictionRow, name: str, *, task: TaskConfig) -> bool:
    """Whether a slide is of a class."""
    label = task.label_of(row.label)
    return task.is_yes(label, branch=task.names.index(name)) if task.multi_label else row.label == name


def _label(title: str, *, arm: str, statistics: Statistics) -> str:
    """A class with its AUC and limits; `statistics` are those of the class."""
    for one in statistics.intervals:
        if (one.arm, one.metric) == (arm, "pooled_auc"):
            limits = "" if np.isnan(one.low) else f" ({one.low:.3f} to {one.high:.3f})"
            return f"{title}, AUC {one.value:.3f}{limits}"
    return title
