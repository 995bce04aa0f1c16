"""How well more than two classes are predicted, on slides with labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from hardmil.config.task import TaskConfig
from hardmil.metrics import binary_metrics, mean_and_se
from hardmil.mil.class_metrics import predicted_classes
from hardmil.statistics.class_intervals import weighted_class_metrics
from hardmil.statistics.class_predictions import PooledClasses


@dataclass(frozen=True)
class BranchMetrics:
    """One class against the rest; of ordered classes, this class or a higher one. NaN where undefined.

    Sensitivity and FPR are those at its threshold.
    """

    auc: float
    sensitivity: float
    fpr: float
    threshold: float


@dataclass(frozen=True)
class ClassMetrics:
    """How often the predicted class is right, the means of this share and of AUC over classes, and each.

    In a multi-label study, `accuracy` is the share of slides of which all classes are predicted right, and
    `balanced_accuracy` the mean over the classes of that of yes and no.

    `kappa` has quadratic weights; NaN unless the classes are ordered.
    """

    accuracy: float
    balanced_accuracy: float
    kappa: float
    macro_auc: float
    of_classes: Mapping[str, BranchMetrics]

    @property
    def overall(self) -> dict[str, float]:
        """The values that are not of one class, by name; without kappa where it is not defined."""
        names = ("accuracy", "balanced_accuracy", "kappa", "macro_auc")
        values = {name: float(getattr(self, name)) for name in names}
        return {name: value for name, value in values.items() if name != "kappa" or not math.isnan(value)}

    def for_json(self) -> dict[str, object]:
        """The values by name, None where undefined."""
        known = {name: _known(vars(one)) for name, one in self.of_classes.items()}
        return {**_known(self.overall), "classes": known}


def metrics_by_class(
    labels: Int[np.ndarray, " bag"],
    class_scores: Float[np.ndarray, "bag class"],
    *,
    task: TaskConfig,
    thresholds: Sequence[float] = (),
) -> ClassMetrics:
    """The metrics of these scores.

    Args:
        labels: Positions of classes, or multi-label labels.
        class_scores: The scores of all classes.
        task: The classes.
        thresholds: Of the branches; 0.5 for all where there are none.
    """
    predicted = predicted_classes(class_scores, task=task)
    once = PooledClasses(0, (), (), labels, class_scores, predicted, ())
    joint = weighted_class_metrics(once, weights=np.ones((1, len(labels))), task=task)
    accuracy, balanced, kappa = joint[:, 0].tolist()
    limits, of_branches = thresholds or (0.5,) * task.n_branches, task.branch_scores(class_scores)
    answers = task.answers(labels).astype(np.int64)
    found: dict[str, BranchMetrics] = {}
    for branch, name in enumerate(task.branch_names):
        one = binary_metrics(answers[:, branch], of_branches[:, branch], threshold=limits[branch])
        found[name] = BranchMetrics(one.auc, one.recall, one.fpr, limits[branch])
    return ClassMetrics(
        accuracy=accuracy,
        balanced_accuracy=balanced,
        kappa=kappa if task.ordinal else math.nan,
        macro_auc=mean_and_se(one.auc for one in found.values()).mean,
        of_classes=found,
    )


def _known(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
