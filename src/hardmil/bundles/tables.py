"""The tables that prediction writes: predictions.csv, predictions_by_case.csv and diagnostics.csv."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Card
from hardmil.bundles.shown_classes import predicted_branch, relative_branch
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.evaluation.results import (
    PredictionRow,
    class_prediction_row,
    prediction_columns,
    prediction_row,
)
from hardmil.files.csv_table import columns_by_name, columns_of
from hardmil.mil.bag_score import BagScore
from hardmil.mil.diagnosis import Diagnosis, diagnose
from hardmil.pictures.slide_pictures import SlidePictures
from hardmil.report.key_patches import KeySlide
from hardmil.report.page_data import SlideDiagnosis


@dataclass(frozen=True)
class SlidePredictionRow:
    """A slide: a row of predictions.csv. `warnings` say how it differs from the training slides.

    With more than two classes, `thresholds` are by class, and `threshold` is not used.
    """

    prediction: PredictionRow
    operating_point: str
    threshold: float
    warnings: str = ""
    thresholds: Mapping[str, float] = columns_by_name("threshold_")


@dataclass(frozen=True)
class CaseRow:
    """A case: a row of predictions_by_case.csv. `case_score` says how its score was made.

    With more than two classes, `scores`, `called` and `thresholds` are by class, as for a slide.
    """

    case_id: str
    n_slides: int
    case_score: str
    label: str
    bag_score: float
    prediction: str
    op_prediction: str
    probabilities: Mapping[str, float] = columns_by_name("prob_")
    operating_point: str = ""
    threshold: float = math.nan
    warnings: str = ""
    scores: Mapping[str, float] = columns_by_name("score_")
    called: Mapping[str, float] = columns_by_name("called_")
    thresholds: Mapping[str, float] = columns_by_name("threshold_")


@dataclass(frozen=True, eq=False)
class SlidePrediction:
    """What is kept of a slide after its files are written; `output` is its score without attention."""

    slide_id: str
    label: int
    output: BagScore
    has_coords: bool
    row: SlidePredictionRow
    warnings: tuple[str, ...]
    diagnoses: tuple[Diagnosis, ...]

    @property
    def bag_score(self) -> float:
        """Its score; with more than two classes, that of the predicted class."""
        return self.row.prediction.bag_score

    def key_slide(self, pictures: SlidePictures | None, *, card: Card) -> list[KeySlide]:
        """The slide on the page of key patches; an empty list where it has no pictures."""
        if pictures is None:
            return []
        remarks = [*self.warnings, *(f"{one.finding}: {one.meaning}" for one in self.diagnoses)]
        prediction, shown_class = self.row.prediction, ""
        if not card.task.is_binary:
            shown_class = card.task.branch_titles[predicted_branch(self.output, task=card.task)]
        return [
            KeySlide(
                slide_id=self.slide_id,
                call=prediction.prediction,
                bag_score=self.bag_score,
                threshold=card.threshold if card.task.is_binary else None,
                label=prediction.label,
                remarks=remarks,
                pictures=pictures,
                shown_class=shown_class,
            )
        ]


def slide_prediction(bag: Bag, score: BagScore, *, card: Card) -> SlidePrediction:
    """A slide, called at the operating point and compared with the training slides."""
    profile = card.training_profile
    warnings = tuple(profile.warnings(bag)) if profile else ()
    return SlidePrediction(
        slide_id=bag.slide_id,
        label=bag.label,
        output=without_attention(score),
        has_coords=bag.size_level0_px > 0,
        row=called(bag, score, card=card, warnings=warnings),
        warnings=warnings,
        diagnoses=tuple(_diagnoses(bag, score, card=card)),
    )


def without_attention(score: BagScore) -> BagScore:
    """The scores alone: the attention of many large slides would fill the memory."""
    nothing = np.zeros(0, np.float32)
    return BagScore(score.bag_score, nothing, nothing, class_scores=score.class_scores)


def _diagnoses(bag: Bag, score: BagScore, *, card: Card) -> list[Diagnosis]:
    """Problems with the attention; with more than two classes, with that for the predicted class."""
    if card.task.is_binary:
        is_positive = score.bag_score > card.threshold if bag.label < 0 else bag.label == 1
        return diagnose(score, is_positive=is_positive, truth=bag.instance_labels)
    branch = predicted_branch(score, task=card.task)
    is_yes = (
        card.task.is_yes(bag.label, branch=branch)
        if bag.label >= 0
        else score.branches[branch].bag_score > 0.5
    )
    shown = relative_branch(score, branch=branch, task=card.task)
    return diagnose(shown, is_positive=is_yes, class_name=card.task.branch_titles[branch])


def called(bag: Bag, score: BagScore, *, card: Card, warnings: Iterable[str]) -> SlidePredictionRow:
    """A score, called at the operating point, with the calibrated probability."""
    if not card.task.is_binary:
        return _class_called(bag, score, card=card, warnings=warnings)
    point, calibration, value = card.operating, card.calibration, score.bag_score
    row = prediction_row(
        bag,
        value,
        classes=card.classes,
        threshold=card.threshold,
        op_threshold=card.threshold if point else math.nan,
        probability=float(calibration.probabilities(np.array([value]))[0]) if calibration else None,
    )
    return SlidePredictionRow(row, card.target, card.threshold, "; ".join(warnings))


def _class_called(bag: Bag, score: BagScore, *, card: Card, warnings: Iterable[str]) -> SlidePredictionRow:
    """The same for more than two classes: each is called at its own operating point."""
    task, calibration, of_classes = card.task, card.class_calibration, score.class_scores
    probabilities = None
    if calibration is not None and of_classes is not None:
        probabilities = calibration.probabilities(of_classes[None])[0]
    row = class_prediction_row(
        bag,
        score,
        task=task,
        thresholds=card.thresholds or None,
        probabilities=probabilities,
    )
    limits = card.thresholds or (math.nan,) * task.n_branches
    thresholds = dict(zip(task.branch_names, limits, strict=True))
    return SlidePredictionRow(row, card.target, math.nan, "; ".join(warnings), thresholds)


def slide_columns(classes: Sequence[str], *, task: TaskConfig = TWO_CLASSES) -> tuple[str, ...]:
    """Columns of predictions.csv."""
    of_prediction = columns_of(PredictionRow)
    own = [name for name in columns_of(SlidePredictionRow) if name not in of_prediction]
    return (*prediction_columns(classes, task=task), *_own_columns(own, task=task))


def case_columns(classes: Sequence[str], *, task: TaskConfig = TWO_CLASSES) -> tuple[str, ...]:
    """Columns of predictions_by_case.csv."""
    columns = columns_of(CaseRow)
    cut = columns.index("op_prediction") + 1
    of_classes = prediction_columns(classes, task=task)[len(columns_of(PredictionRow)) :]
    return (*columns[:cut], *of_classes, *_own_columns(columns[cut:], task=task))


def _own_columns(columns: Sequence[str], *, task: TaskConfig) -> list[str]:
    """Columns of the call; with more than two classes, with a threshold for each."""
    if task.is_binary:
        return list(columns)
    return [
        *(one for one in columns if one != "threshold"),
        *(f"threshold_{name}" for name in task.branch_names),
    ]


def diagnosis_rows(slides: Iterable[SlidePrediction]) -> list[SlideDiagnosis]:
    """Rows of diagnostics.csv."""
    return [
        SlideDiagnosis(slide.slide_id, one.finding, one.meaning, one.remedy)
        for slide in slides
        for one in slide.diagnoses
    ]
