"""Metrics of more than two classes: of the predicted class, and means over the branches."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
from jaxtyping import Float, Int

from hardmil.config.task import TaskConfig
from hardmil.metrics import BinaryMetrics, binary_metrics, mean_and_se
from hardmil.mil.class_scores import called_class


def predicted_classes(
    class_scores: Float[np.ndarray, "bag class"], *, task: TaskConfig
) -> Int[np.ndarray, " bag"]:
    """The position of the class that each bag is called: `called_class` of its scores."""
    return np.array([called_class(one, task=task) for one in class_scores], dtype=np.int64)


def class_metrics(
    labels: Int[np.ndarray, " bag"], class_scores: Float[np.ndarray, "bag class"], *, task: TaskConfig
) -> BinaryMetrics:
    """The six metrics of the paper: the accuracy of the predicted class, and means over the branches.

    In a multi-label study, the accuracy is the share of bags of which all classes are predicted right.
    Each branch is measured against the rest: its answer is called by the predicted class, and its AUC is that
    of its score. A branch where a metric is undefined is left out of its mean; NaN where it is in all.

    Raises:
        BagError: If a score is not finite.
    """
    predicted = predicted_classes(class_scores, task=task)
    yes, called = task.answers(labels), task.answers(predicted)
    scores = task.branch_scores(class_scores)
    found: list[BinaryMetrics] = []
    for k in range(task.n_branches):
        at_call = binary_metrics(yes[:, k].astype(np.int64), called[:, k].astype(np.float64))
        auc = binary_metrics(yes[:, k].astype(np.int64), scores[:, k]).auc
        found.append(replace(at_call, auc=auc))
    n_right = int(np.count_nonzero(predicted == labels))
    return replace(mean_metrics(found), accuracy=n_right / len(labels) if len(labels) else math.nan)


def mean_metrics(found: Sequence[BinaryMetrics]) -> BinaryMetrics:
    """The mean of each metric over those where it is defined."""
    names = [one.name for one in fields(BinaryMetrics)]
    return BinaryMetrics(*(mean_and_se(getattr(one, name) for one in found).mean for name in names))
