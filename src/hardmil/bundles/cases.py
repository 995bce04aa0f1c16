"""From slides to cases: one score and one call for each case."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Bundle
from hardmil.bundles.case_scores import case_label, combined_score
from hardmil.bundles.tables import CaseRow, SlidePrediction, called
from hardmil.mil.bag_score import BagScore

CaseScore = Literal["pooled", "max", "mean"]


class Cases:
    """Collects slides, which must come case by case; only the bags of one case are in memory.

    `how` a case of several slides is scored: `pooled`, all their patches as one bag, or the `max` or the
    `mean` of their scores, as `combined_score` says.
    """

    def __init__(self, bundle: Bundle, *, how: CaseScore) -> None:
        self._bundle = bundle
        self._how: CaseScore = how
        self._bags: list[Bag] = []
        self._slides: list[SlidePrediction] = []
        self._rows: dict[str, CaseRow] = {}

    def add(self, bag: Bag, slide: SlidePrediction) -> None:
        """Add the next slide."""
        if self._bags and self._bags[0].case_id != bag.case_id:
            self._close()
        self._bags.append(bag)
        self._slides.append(slide)

    def rows(self, *, failed: Sequence[str]) -> list[CaseRow]:
        """One row for each case; `failed` has the case of every slide without a score."""
        if self._bags:
            self._close()
        return [_with_failed(row, failed.count(case_id)) for case_id, row in self._rows.items()]

    def _close(self) -> None:
        label = case_label([slide.label for slide in self._slides], task=self._bundle.card.task)
        score, n_slides = self._score(), len(self._slides)
        warnings = dict.fromkeys(one for slide in self._slides for one in slide.warnings)
        how = self._how if n_slides > 1 else "its one slide"
        first = replace(self._bags[0], label=label)
        self._rows[first.case_id] = _case_row(
            first, score, bundle=self._bundle, n_slides=n_slides, how=how, warnings=warnings
        )
        self._bags, self._slides = [], []

    def _score(self) -> BagScore:
        scores = [slide.output for slide in self._slides]
        if len(scores) == 1:
            return scores[0]
        if self._how == "pooled":
            return self._bundle.score([_pooled(self._bags)])[0]
        return combined_score(scores, how=self._how, task=self._bundle.card.task)


def _case_row(
    bag: Bag, score: BagScore, *, bundle: Bundle, n_slides: int, how: str, warnings: Iterable[str]
) -> CaseRow:
    row = called(bag, score, card=bundle.card, warnings=warnings)
    prediction = row.prediction
    return CaseRow(
        case_id=prediction.case_id,
        n_slides=n_slides,
        case_score=how,
        label=prediction.label,
        bag_score=prediction.bag_score,
        prediction=prediction.prediction,
        op_prediction=prediction.op_prediction,
        probabilities=prediction.probabilities,
        operating_point=row.operating_point,
        threshold=row.threshold,
        warnings=row.warnings,
        scores=prediction.scores,
        called=prediction.called,
        thresholds=row.thresholds,
    )


def _with_failed(row: CaseRow, n_failed: int) -> CaseRow:
    if n_failed == 0:
        return row
    missing = f"{n_failed} of its slides could not be scored"
    return replace(row, warnings="; ".join(filter(None, [missing, row.warnings])))


def _pooled(bags: Sequence[Bag]) -> Bag:
    """One bag of all patches, each with its place on its own slide."""
    case_id, size = bags[0].case_id, max(bag.size_level0_px for bag in bags)
    instances = np.concatenate([bag.instances for bag in bags])
    coords = np.concatenate([bag.coords for bag in bags])
    slides = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
    return Bag(case_id, case_id, -1, instances, coords, size, instance_slides=slides)
