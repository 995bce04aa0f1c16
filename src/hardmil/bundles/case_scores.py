"""The score and the label of a case from those of its slides."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Literal

import numpy as np
from jaxtyping import Float

from hardmil.config.task import TaskConfig, of_steps
from hardmil.mil.bag_score import BagScore

HowCombined = Literal["max", "mean"]


def combined_score(scores: Sequence[BagScore], *, how: HowCombined, task: TaskConfig) -> BagScore:
    """One score from those of several slides, without attention.

    With two classes, the highest or the mean. With more, `mean` is the mean score of each class. `max`
    depends on the classes: of ordered ones, "this class or a higher one" gets its highest score; of exclusive
    ones, the scores are those of one slide: with a negative class, the slide with the lowest score of it,
    otherwise the one with the highest score of any class. In a multi-label study, each class gets its
    highest.
    """
    nothing = np.zeros(0, np.float32)
    if task.is_binary:
        values = [one.bag_score for one in scores]
        value = max(values) if how == "max" else float(np.mean(values))
        return BagScore(value, nothing, nothing)
    of_slides = np.stack([one.class_scores for one in scores if one.class_scores is not None])
    of_case = of_slides.mean(axis=0) if how == "mean" else _highest(of_slides, task=task)
    return BagScore(float(of_case.max()), nothing, nothing, class_scores=of_case)


def _highest(of_slides: Float[np.ndarray, "slide class"], *, task: TaskConfig) -> Float[np.ndarray, " class"]:
    if task.multi_label:
        return of_slides.max(axis=0)
    if task.ordinal:
        return of_steps(task.branch_scores(of_slides).max(axis=0))
    if task.negative_label is not None:
        return of_slides[np.argmin(of_slides[:, task.negative_label])]
    return of_slides[np.argmax(of_slides.max(axis=1))]


def case_label(labels: Sequence[int], *, task: TaskConfig) -> int:
    """The label of a case from those of its slides; -1 if it is unknown.

    With two classes or ordered ones, the highest, unless a slide without a label could be higher. Of
    exclusive classes, the one that its slides have besides the negative one; unknown if there are several. In
    a multi-label study, a case has a class if any slide has it; unknown if a slide without a label could add
    one.
    """
    if task.multi_label:
        union = reduce(or_, (label for label in labels if label >= 0), 0)
        return -1 if -1 in labels and union < task.n_labels - 1 else union
    if task.is_binary or task.ordinal:
        highest = max(labels)
        return highest if highest == task.n_classes - 1 else -1 if -1 in labels else highest
    found = {label for label in labels if label not in (-1, task.negative_label)}
    if len(found) == 1:
        return found.pop()
    negative = task.negative_label
    return negative if not found and negative is not None and -1 not in labels else -1
