"""An operating point for each branch of a model of more than two classes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from hardmil.config.task import TaskConfig
from hardmil.mil.operating import OperatingPoint, set_operating_point


def set_class_operating_points(
    labels: Int[np.ndarray, " bag"],
    class_scores: Float[np.ndarray, "bag class"],
    *,
    task: TaskConfig,
    cases: Sequence[str],
    target: str,
    seed: int = 0,
) -> tuple[OperatingPoint, ...]:
    """The threshold of each branch for a target, set on out-of-fold scores as `set_operating_point` does.

    Args:
        labels: Positions of classes; every branch has bags of both answers.
        class_scores: Of models that did not see the bag; they sum to 1.
        task: The classes.
        cases: The case of each bag.
        target: "sensitivity=0.95", "fpr=0.05" or "youden"; the same for all branches, each against the rest.
        seed: Seed of the resampling.

    Raises:
        BagError: If a branch has no bag of one answer, or a score is not finite.
        ValueError: If `target` is none of these.
    """
    answers, scores = task.answers(labels), task.branch_scores(class_scores)
    return tuple(
        set_operating_point(yes.astype(np.int64), of_branch, cases=cases, target=target, seed=seed)
        for yes, of_branch in zip(answers.T, scores.T, strict=True)
    )
