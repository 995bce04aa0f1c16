"""The tables that prediction writes: predictions.csv, predictions_by_case.csv and diagnostics.csv."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Card
from hardmil.evaluation.results import PredictionRow, prediction_row
from hardmil.files.csv_table import columns_by_name, columns_of
from hardmil.mil.diagnosis import Diagnosis, diagnose
from hardmil.mil.inference import BagScore
from hardmil.pictures.slide_pictures import SlidePictures
from hardmil.report.key_patches import KeySlide
from hardmil.report.page_data import SlideDiagnosis


@dataclass(frozen=True)
class SlidePredictionRow:
    """A slide: a row of predictions.csv. `warnings` say how it differs from the training slides."""

    prediction: PredictionRow
    operating_point: str
    threshold: float
    warnings: str = ""


@dataclass(frozen=True)
class CaseRow:
    """A case: a row of predictions_by_case.csv. `case_score` says how its score was made."""

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


@dataclass(frozen=True, eq=False)
class SlidePrediction:
    """What is kept of a slide after its files are written."""

    slide_id: str
    label: int
    bag_score: float
    has_coords: bool
    row: SlidePredictionRow
    warnings: tuple[str, ...]
    diagnoses: tuple[Diagnosis, ...]

    def key_slide(self, pictures: SlidePictures | None, *, threshold: float) -> list[KeySlide]:
        """The slide on the page of key patches; an empty list where it has no pictures."""
        if pictures is None:
            return []
        remarks = [*self.warnings, *(f"{one.finding}: {one.meaning}" for one in self.diagnoses)]
        prediction = self.row.prediction
        return [
            KeySlide(
                slide_id=self.slide_id,
                call=prediction.prediction,
                bag_score=self.bag_score,
                threshold=threshold,
                label=prediction.label,
                remarks=remarks,
                pictures=pictures,
            )
        ]


def slide_prediction(bag: Bag, score: BagScore, *, card: Card) -> SlidePrediction:
    """A slide, called at the operating point and compared with the training slides."""
    profile = card.training_profile
    warnings = tuple(profile.warnings(bag)) if profile else ()
    is_positive = score.bag_score > card.threshold if bag.label < 0 else bag.label == 1
    return SlidePrediction(
        slide_id=bag.slide_id,
        label=bag.label,
        bag_score=score.bag_score,
        has_coords=bag.size_level0_px > 0,
        row=called(bag, score.bag_score, card=card, warnings=warnings),
        warnings=warnings,
        diagnoses=tuple(diagnose(score, is_positive=is_positive, truth=bag.instance_labels)),
    )


def called(bag: Bag, score: float, *, card: Card, warnings: Iterable[str]) -> SlidePredictionRow:
    """A score, called at the operating point, with the calibrated probability."""
    point, calibration = card.operating, card.calibration
    row = prediction_row(
        bag,
        score,
        classes=card.classes,
        threshold=card.threshold,
        op_threshold=card.threshold if point else math.nan,
        probability=float(calibration.probabilities(np.array([score]))[0]) if calibration else None,
    )
    return SlidePredictionRow(row, point.target if point else "", card.threshold, "; ".join(warnings))


def slide_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Columns of predictions.csv."""
    return columns_of(SlidePredictionRow, names=classes)


def case_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Columns of predictions_by_case.csv."""
    return columns_of(CaseRow, names=classes)


def diagnosis_rows(slides: Iterable[SlidePrediction]) -> list[SlideDiagnosis]:
    """Rows of diagnostics.csv."""
    return [
        SlideDiagnosis(slide.slide_id, one.finding, one.meaning, one.remedy)
        for slide in slides
        for one in slide.diagnoses
    ]
