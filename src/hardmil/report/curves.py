"""The curves on report.html."""

from collections.abc import Mapping, Sequence

import numpy as np

from hardmil.evaluation.arm_name import parse_arm_name
from hardmil.evaluation.evaluation import Evaluation
from hardmil.evaluation.results import PredictionRow, key_of
from hardmil.pictures.curve_figures import (
    STYLES,
    CurveLine,
    ReliabilityLine,
    precision_figure,
    reliability_figure,
    roc_figure,
)
from hardmil.report.page_data import Drawing
from hardmil.statistics.curve_bands import GRID, N_BAND_RESAMPLES, Band, Reliability, arm_curves, reliability
from hardmil.statistics.pooled_predictions import PooledRepeat, pool_predictions
from hardmil.statistics.tables import Statistics


def curve_drawings(
    predictions: Sequence[PredictionRow], *, arm: str, statistics: Statistics, evaluation: Evaluation
) -> list[Drawing]:
    """ROC and precision-recall curves of an arm, its base and its control, or of all arms if they are few.

    An empty list if a class has no slide.
    """
    positive = evaluation.classes[1]
    pooled = {key[0]: repeats for key, repeats in pool_predictions(predictions, positive=positive).items()}
    names = arms_drawn(list(pooled), arm=arm)
    found = {name: arm_curves(pooled[name], seed=evaluation.seed) for name in names}
    found = {name: curves for name, curves in found.items() if not np.isnan(curves.roc.value).all()}
    if not found:
        return []
    roc_words, precision_words = (
        {name: _label(name, statistics, metric=metric, word=word) for name in found}
        for metric, word in (("pooled_auc", "AUC"), ("average_precision", "AP"))
    )
    others = len(pooled) - len(found)
    left_out = (
        f" {others} more {'arm is' if others == 1 else 'arms are'} only in the tables." if others else ""
    )
    bands = (
        f"Bands: 95% by case, pointwise, {N_BAND_RESAMPLES} resamples."
        if len(set(_cases(pooled[arm]))) > 1
        else "No bands: there is only one case."
    )
    share = float(np.mean(np.concatenate([one.labels for one in pooled[names[0]]])))
    return [
        Drawing(
            roc_figure([_line(roc_words[name], curves.roc) for name, curves in found.items()]),
            "ROC curves, sensitivity against false-positive rate: " + "; ".join(roc_words.values()),
            f"ROC. Up and to the left is better; dotted: chance. {bands}{left_out}",
        ),
        Drawing(
            precision_figure(
                [_line(precision_words[name], curves.precision_recall) for name, curves in found.items()],
                share_positive=share,
            ),
            "Precision-recall curves: " + "; ".join(precision_words.values()),
            "Precision-recall, with average precision (AP). Up is better; dotted: chance, "
            f"as {share:.2f} of these slides are {positive}.",
        ),
    ]


def arms_drawn(names: Sequence[str], *, arm: str) -> list[str]:
    """The arms in one figure: all if they are few, otherwise `arm`, its base and its control."""
    if len(names) <= len(STYLES):
        return list(names)
    parts = parse_arm_name(arm)
    return [name for name in dict.fromkeys((parts.base, arm, parts.its_control)) if name in names]


def calibration_drawing(predictions: Sequence[PredictionRow], *, arm: str, positive: str) -> Drawing | None:
    """Reliability of the arm's probabilities and raw scores; of the scores alone if they are the same.

    None if the arm has no predictions.
    """
    rows = [row for row in predictions if key_of(row).arm == arm]
    if not rows:
        return None
    scores = [row.bag_score for row in rows]
    probabilities = [row.probabilities[positive] for row in rows]
    calibrated = any(abs(a - b) > 1e-6 for a, b in zip(scores, probabilities, strict=True))
    labels = [int(row.label == positive) for row in rows]
    columns = {"calibrated probability": (probabilities, labels)} if calibrated else {}
    columns["raw bag score" if calibrated else "bag score"] = (scores, labels)
    return reliability_drawing(
        columns, repeats=[key_of(row).repeat for row in rows], arm=arm, positive=positive
    )


def reliability_drawing(
    columns: Mapping[str, tuple[Sequence[float], Sequence[int]]],
    *,
    repeats: Sequence[int],
    arm: str,
    positive: str,
) -> Drawing:
    """Reliability of an arm, by the name of a score.

    Args:
        columns: Scores, and 1 for each slide that is positive; the last are those that were not calibrated.
        repeats: The repeat of each prediction.
        arm: The arm.
        positive: What a positive slide is, in words.
    """
    found = {name: _reliability(*column, repeats=repeats) for name, column in columns.items()}
    words = "; ".join(
        f"{name}: calibration error {one.ece:.3f}, Brier score {one.brier:.3f}" for name, one in found.items()
    )
    lines = [
        ReliabilityLine(name, one.mean_score, one.share_positive, one.count) for name, one in found.items()
    ]
    kept = "" if len(columns) > 1 else " Scores were not calibrated."
    return Drawing(
        reliability_figure(lines, positive=positive),
        f"Reliability of {arm} in ten bins. {words}. {_bins_words(next(iter(found.values())))}",
        f"Calibration of {arm}. {words[0].upper()}{words[1:]}; 0 is best for both. On the dotted line, seven "
        f"of ten slides with a score of 0.7 are {positive}. Below: the number of predictions in each bin, "
        f"over all repeats; a point with few predictions says little.{kept}",
    )


def _reliability(values: Sequence[float], positives: Sequence[int], *, repeats: Sequence[int]) -> Reliability:
    labels, scores, of = np.array(positives), np.array(values), np.array(repeats)
    here = [of == repeat for repeat in np.unique(of)]
    return reliability([labels[one] for one in here], [scores[one] for one in here])


def _bins_words(one: Reliability) -> str:
    """The bins that are not empty, as text for readers who cannot see the figure."""
    bins = zip(one.mean_score, one.share_positive, one.count, strict=True)
    return "Mean score, share positive, predictions: " + "; ".join(
        f"{mean:.2f}, {share:.2f}, {n}" for mean, share, n in bins if n
    )


def _label(name: str, statistics: Statistics, *, metric: str, word: str) -> str:
    for one in statistics.intervals:
        if (one.arm, one.metric) == (name, metric):
            limits = "" if np.isnan(one.low) else f" ({one.low:.3f} to {one.high:.3f})"
            return f"{name}, {word} {one.value:.3f}{limits}"
    return name


def _line(name: str, band: Band) -> CurveLine:
    return CurveLine(name, GRID, band.value, band.low, band.high)


def _cases(repeats: Sequence[PooledRepeat]) -> list[str]:
    return [case for repeat in repeats for case in repeat.cases]
