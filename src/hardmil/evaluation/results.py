"""The tables of an evaluation: results.csv, predictions.csv, hard_negatives.csv and choices.csv."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from hardmil.bags.bag import Bag
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.evaluation.choice import Choice
from hardmil.files.csv_table import columns_by_name, columns_of
from hardmil.metrics import BinaryMetrics
from hardmil.mil.bag_score import BagScore
from hardmil.mil.class_scores import called_class, score_of_bag
from hardmil.mining.hard_instances import HardInstance

RESULTS, PREDICTIONS, HARD_NEGATIVES = "results.csv", "predictions.csv", "hard_negatives.csv"
CHOICES = "choices.csv"
METRICS = tuple(one.name for one in fields(BinaryMetrics))
"""The paper's six."""


class ArmKey(NamedTuple):
    """An arm, how its folds were drawn, and how its patches were made.

    With more than two classes, a number is of one class against the rest, or of MACRO; otherwise `class_name`
    is empty.
    """

    arm: str
    split: str
    patches: str
    class_name: str = ""


@dataclass(frozen=True)
class TrialKey:
    """Which trial a row belongs to."""

    arm: str
    split: str
    patches: str
    repeat: int
    fold: int

    @property
    def arm_key(self) -> ArmKey:
        """The same without repeat and fold."""
        return ArmKey(self.arm, self.split, self.patches)


TRIAL_COLUMNS = columns_of(TrialKey)
"""The columns that identify a trial in each table."""


@dataclass(frozen=True)
class ResultRow:
    """One trial: a row of results.csv. What was not measured is NaN.

    With more than two classes, the six are those of `class_metrics`, and the thresholds are by class.
    """

    trial: TrialKey
    config_hash: str
    n_false_positive_bags: int
    n_hard: int
    metrics: BinaryMetrics
    op_threshold: float = math.nan
    instance_auc: float = math.nan
    mined_look_alikes: float = math.nan
    seconds: float = math.nan
    op_thresholds: Mapping[str, float] = columns_by_name("op_threshold_")


@dataclass(frozen=True)
class PredictionRow:
    """What a model calls one slide: a row of predictions.csv.

    `prediction` is the call at the operating point, or at the model's own threshold where no operating point
    was set. `op_prediction` is the same, but empty where none was set. `probabilities` are by class.

    With more than two classes, `prediction` is the class of `called_class` and `bag_score` its score; in a
    multi-label study, all classes with a score above 0.5, or none, and the highest score of any class.
    `scores` are by class, not calibrated; `called` is 1 for a class that was called at its own operating
    point (of ordered classes: the class or a higher one), 0 for one that was not, and NaN where none was set.
    """

    trial: TrialKey | None
    slide_id: str
    case_id: str
    label: str
    bag_score: float
    prediction: str = ""
    op_prediction: str = ""
    probabilities: Mapping[str, float] = columns_by_name("prob_")
    scores: Mapping[str, float] = columns_by_name("score_")
    called: Mapping[str, float] = columns_by_name("called_")


@dataclass(frozen=True)
class HardNegativeRow:
    """One mined instance: a row of hard_negatives.csv."""

    trial: TrialKey | None
    mined: HardInstance


@dataclass(frozen=True)
class ChoiceRow:
    """A candidate of the arm `auto` in one trial: a row of choices.csv.

    `chosen` is the candidate that was taken, the same in all rows of a trial; `criterion` is what `value` is,
    such as auc; `below_best` and `se` as in `Candidate`.
    """

    trial: TrialKey
    chosen: str
    criterion: str
    candidate: str
    value: float
    below_best: float
    se: float


def choice_rows(choice: Choice | None, *, trial: TrialKey) -> list[ChoiceRow]:
    """The rows of a choice, one for each candidate; none where nothing was chosen."""
    if choice is None:
        return []
    return [
        ChoiceRow(trial, choice.chosen, choice.criterion, one.name, one.value, one.below_best, one.se)
        for one in choice.candidates
    ]


def key_of(row: PredictionRow | HardNegativeRow) -> TrialKey:
    """The trial a row belongs to.

    Raises:
        ValueError: If it belongs to none, such as a prediction of a bundle.
    """
    if row.trial is None:
        raise ValueError("the row belongs to no trial; expected a row of an evaluation")
    return row.trial


def result_columns(task: TaskConfig) -> tuple[str, ...]:
    """Columns of results.csv for these classes."""
    return columns_of(ResultRow, names=() if task.is_binary else task.branch_names)


def prediction_columns(classes: Sequence[str], *, task: TaskConfig = TWO_CLASSES) -> tuple[str, ...]:
    """Columns of predictions.csv for these classes."""
    probabilities = (f"prob_{name}" for name in classes)
    scores = (f"score_{name}" for name in task.names)
    called = () if task.is_binary else (f"called_{name}" for name in task.branch_names)
    return (*columns_of(PredictionRow), *probabilities, *scores, *called)


def hard_negative_columns(task: TaskConfig) -> tuple[str, ...]:
    """Columns of hard_negatives.csv: `hard_for` only with more than two classes."""
    return tuple(one for one in columns_of(HardNegativeRow) if one != "hard_for" or not task.is_binary)


def prediction_row(
    bag: Bag,
    score: float,
    *,
    classes: Sequence[str],
    trial: TrialKey | None = None,
    threshold: float = 0.5,
    op_threshold: float = math.nan,
    probability: float | None = None,
) -> PredictionRow:
    """How a model scores and calls a bag, as a row.

    Args:
        bag: The bag.
        score: Its score.
        classes: The negative and the positive class.
        trial: The trial it belongs to.
        threshold: A score above it is called positive where there is no operating point.
        op_threshold: The same at the operating point; NaN where there is none.
        probability: Calibrated, of the positive class; the score where it is None.
    """
    probability_positive = score if probability is None else probability
    by_op = "" if math.isnan(op_threshold) else classes[int(score > op_threshold)]
    return PredictionRow(
        trial=trial,
        slide_id=bag.slide_id,
        case_id=bag.case_id,
        label=classes[bag.label] if bag.label >= 0 else "",
        bag_score=score,
        prediction=by_op or classes[int(score > threshold)],
        op_prediction=by_op,
        probabilities={classes[0]: 1 - probability_positive, classes[1]: probability_positive},
    )


def class_prediction_row(
    bag: Bag,
    score: BagScore,
    *,
    task: TaskConfig,
    trial: TrialKey | None = None,
    thresholds: Sequence[float] | None = None,
    probabilities: Float[np.ndarray, " class"] | None = None,
) -> PredictionRow:
    """How a model of more than two classes scores and calls a bag, as a row.

    Args:
        bag: The bag.
        score: What the model found, with `class_scores`.
        task: The classes.
        trial: The trial it belongs to.
        thresholds: The operating point of each branch; NaN, or None for all, where there is none.
        probabilities: Calibrated, by class; the scores where None.
    """
    if score.class_scores is None:
        raise ValueError(f"slide {bag.slide_id}: a score without class_scores; expected one of many classes")
    scores = score.class_scores
    limits = np.full(task.n_branches, np.nan) if thresholds is None else np.asarray(thresholds)
    called = np.where(np.isnan(limits), np.nan, task.branch_scores(scores) > limits)
    chances = scores if probabilities is None else probabilities
    return PredictionRow(
        trial=trial,
        slide_id=bag.slide_id,
        case_id=bag.case_id,
        label=task.label_text(bag.label) if bag.label >= 0 else "",
        bag_score=score_of_bag(scores, task=task),
        prediction=task.label_text(called_class(scores, task=task)),
        probabilities=dict(zip(task.names, chances.tolist(), strict=True)),
        scores=dict(zip(task.names, scores.tolist(), strict=True)),
        called=dict(zip(task.branch_names, called.tolist(), strict=True)),
    )
