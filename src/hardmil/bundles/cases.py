"""What `predict` says of a slide and of a case: score, probability, call, warnings, diagnoses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Bundle, Card
from hardmil.evaluation.results import prediction_columns, prediction_row
from hardmil.mil.diagnosis import Diagnosis, diagnose
from hardmil.mil.inference import BagScore, score_bags
from hardmil.pictures.slide_pictures import SlidePictures
from hardmil.report.key_patches import KeySlide

CaseScore = Literal["pooled", "max", "mean"]

DIAGNOSTICS = ("slide_id", "finding", "meaning", "remedy")
_CALL = ("operating_point", "threshold", "warnings")
_NOT_OF_A_CASE = ("arm", "split", "patches", "repeat", "fold", "slide_id")


@dataclass(frozen=True, eq=False)
class SlidePrediction:
    """What is kept of a slide once its files are written: its row of predictions.csv, and what is wrong."""

    slide_id: str
    label: int
    bag_score: float
    has_places: bool
    row: dict[str, object]
    warnings: tuple[str, ...]
    diagnoses: tuple[Diagnosis, ...]


class Cases:
    """Cases from their slides, which come case by case; the bags of one case alone are held.

    `how` a case of several slides gets its score: `pooled`, all their patches as one bag, or the `max` or the
    `mean` of their scores.
    """

    def __init__(self, bundle: Bundle, *, how: CaseScore) -> None:
        self._bundle = bundle
        self._how: CaseScore = how
        self._bags: list[Bag] = []
        self._slides: list[SlidePrediction] = []
        self._rows: dict[str, dict[str, object]] = {}

    def add(self, bag: Bag, slide: SlidePrediction) -> None:
        """Take in the next slide."""
        if self._bags and self._bags[0].case_id != bag.case_id:
            self._close()
        self._bags.append(bag)
        self._slides.append(slide)

    def rows(self, *, failed: Sequence[str]) -> list[dict[str, object]]:
        """A row of predictions_by_case.csv each; `failed` has the case of every slide that has no score."""
        if self._bags:
            self._close()
        return [self._with_failed(case_id, row, failed.count(case_id)) for case_id, row in self._rows.items()]

    def _close(self) -> None:
        labels = [slide.label for slide in self._slides]
        # a case is positive if one of its slides is, and not known if another slide could make it so
        label = 1 if 1 in labels else min(labels)
        score = self._score()
        first = replace(self._bags[0], label=label)
        row = _row(first, score, card=self._bundle.card)
        warnings = dict.fromkeys(one for slide in self._slides for one in slide.warnings)
        n_slides = len(self._slides)
        how = self._how if n_slides > 1 else "its one slide"
        self._rows[first.case_id] = row | {
            "n_slides": n_slides,
            "case_score": how,
            "warnings": "; ".join(warnings),
        }
        self._bags, self._slides = [], []

    def _score(self) -> float:
        scores = [slide.bag_score for slide in self._slides]
        if len(scores) == 1:
            return scores[0]
        match self._how:
            case "pooled":
                return score_bags(self._bundle.network, [_pooled(self._bags)])[0].bag_score
            case "max":
                return max(scores)
            case "mean":
                return float(np.mean(scores))

    @staticmethod
    def _with_failed(case_id: str, row: dict[str, object], n_failed: int) -> dict[str, object]:
        if n_failed == 0:
            return row
        missing = f"{n_failed} of its slides could not be scored"
        return row | {"warnings": "; ".join(filter(None, [missing, str(row["warnings"])]))}


def scored(bag: Bag, score: BagScore, *, card: Card) -> SlidePrediction:
    """What is kept of a slide: called at the operating point, compared with the training slides."""
    warnings = tuple(card.training_profile.warnings(bag)) if card.training_profile else ()
    is_positive = score.bag_score > card.threshold if bag.label < 0 else bag.label == 1
    return SlidePrediction(
        slide_id=bag.slide_id,
        label=bag.label,
        bag_score=score.bag_score,
        has_places=bag.size_level0_px > 0,
        row=_row(bag, score.bag_score, card=card) | {"warnings": "; ".join(warnings)},
        warnings=warnings,
        diagnoses=tuple(diagnose(score, is_positive=is_positive, truth=bag.instance_labels)),
    )


def key_slide(slide: SlidePrediction, *, card: Card, pictures: SlidePictures | None) -> list[KeySlide]:
    """The slide on the page of key patches; nothing where it has no pictures."""
    if pictures is None:
        return []
    return [
        KeySlide(
            slide_id=slide.slide_id,
            call=str(slide.row["prediction"]),
            bag_score=slide.bag_score,
            threshold=card.threshold,
            label=str(slide.row["label"]),
            remarks=[*slide.warnings, *(f"{one.finding}: {one.meaning}" for one in slide.diagnoses)],
            pictures=pictures,
        )
    ]


def slide_columns(card: Card) -> tuple[str, ...]:
    """Columns of predictions.csv."""
    return (*prediction_columns(card.classes), *_CALL)


def case_columns(card: Card) -> tuple[str, ...]:
    """Columns of predictions_by_case.csv."""
    of_case = [name for name in prediction_columns(card.classes) if name not in _NOT_OF_A_CASE]
    return (of_case[0], "n_slides", "case_score", *of_case[1:], *_CALL)


def diagnosis_rows(slides: Sequence[SlidePrediction]) -> list[dict[str, object]]:
    """Rows of diagnostics.csv."""
    return [
        {
            "slide_id": slide.slide_id,
            "finding": one.finding,
            "meaning": one.meaning,
            "remedy": one.remedy,
        }
        for slide in slides
        for one in slide.diagnoses
    ]


def _row(bag: Bag, score: float, *, card: Card) -> dict[str, object]:
    """Called at the operating point, with the calibrated probability."""
    chance = float(card.calibration.probabilities(np.array([score]))[0]) if card.calibration else None
    op_threshold = card.threshold if card.operating else math.nan
    row = prediction_row(
        bag,
        score,
        classes=card.classes,
        threshold=card.threshold,
        op_threshold=op_threshold,
        probability=chance,
    )
    asked = card.operating.asked if card.operating else ""
    return row | {"operating_point": asked, "threshold": card.threshold}


def _pooled(bags: Sequence[Bag]) -> Bag:
    """One bag of all their patches; their places are those of several slides, and so not known."""
    instances = np.concatenate([bag.instances for bag in bags])
    coords = np.zeros((len(instances), 2), dtype=np.int64)
    return Bag(bags[0].case_id, bags[0].case_id, -1, instances, coords, 0)
