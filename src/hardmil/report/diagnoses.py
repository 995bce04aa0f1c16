"""Problems with the attention of an arm on held-out slides, for the report."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from hardmil.config.task import TaskConfig
from hardmil.evaluation.attention_file import read_score
from hardmil.evaluation.evaluation import Evaluation, TrialRows
from hardmil.evaluation.results import PredictionRow
from hardmil.evaluation.truth import LESION, Truth
from hardmil.mil.diagnosis import diagnose
from hardmil.report.confusion import labels_of, shown_branch, shown_class
from hardmil.report.held_out import with_attention_file
from hardmil.report.page_data import SlideDiagnosis


def _is_positive(row: PredictionRow, *, task: TaskConfig, classes: Sequence[str]) -> bool:
    """Whether the slide has what its attention was asked for: with many classes, that of the called class."""
    label, _ = labels_of(row, task=task, classes=classes)
    return label == 1 if task.is_binary else task.is_yes(label, branch=shown_branch(row, task=task))


def _is_lesion(truth: Truth | None) -> Float32[np.ndarray, " _"] | None:
    return None if truth is None else (truth == LESION).astype(np.float32)


def diagnoses_of_arm(evaluation: Evaluation, *, rows: TrialRows, arm: str) -> list[SlideDiagnosis]:
    """The problems in the arm's first repeat, slide by slide; none if the trials folder was deleted."""
    truth = evaluation.cohort.truth
    found: list[SlideDiagnosis] = []
    for row, stored in with_attention_file(evaluation, rows=rows, arm=arm):
        if not stored.exists():
            continue
        slide_id = row.slide_id
        score = read_score(stored, slide_id=slide_id)
        problems = diagnose(
            score,
            is_positive=_is_positive(row, task=evaluation.task, classes=evaluation.classes),
            truth=_is_lesion(truth.get(slide_id)),
            class_name=shown_class(row, task=evaluation.task) or "the positive class",
        )
        found += [SlideDiagnosis(slide_id, one.finding, one.meaning, one.remedy) for one in problems]
    return found
