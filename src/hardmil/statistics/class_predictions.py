"""The predictions of an arm for more than two classes, pooled over folds, and each branch of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from hardmil.config.task import TaskConfig
from hardmil.evaluation.results import ArmKey, PredictionRow, key_of
from hardmil.mil.class_metrics import predicted_classes
from hardmil.statistics.pooled_predictions import PooledRepeat, rows_by_repeat


@dataclass(frozen=True, eq=False)
class PooledClasses:
    """The predictions of an arm for all held-out slides in one repeat, as `PooledRepeat`, by class.

    `predicted` are the classes of `predicted_classes`; `called` are the calls at the operating points, None
    for a branch if a row has no such call.
    """

    repeat: int
    bags: tuple[tuple[int, str], ...]
    cases: tuple[str, ...]
    labels: Int[np.ndarray, " bag"]
    class_scores: Float[np.ndarray, "bag class"]
    predicted: Int[np.ndarray, " bag"]
    called: tuple[Bool[np.ndarray, " bag"] | None, ...]

    def branches(self, task: TaskConfig) -> list[PooledRepeat]:
        """Each branch as a question of its own, called by the predicted class."""
        yes, called = (task.answers(one) for one in (self.labels, self.predicted))
        scores = task.branch_scores(self.class_scores)
        return [
            PooledRepeat(
                repeat=self.repeat,
                bags=self.bags,
                cases=self.cases,
                labels=yes[:, k].astype(np.int64),
                scores=scores[:, k],
                called_at_op=self.called[k],
                called=called[:, k],
            )
            for k in range(task.n_branches)
        ]


def pool_classes(rows: Iterable[PredictionRow], *, task: TaskConfig) -> dict[ArmKey, list[PooledClasses]]:
    """The repeats of each arm, in the order of their numbers; arms in the order of their rows.

    Args:
        rows: Rows of trials.
        task: The classes.
    """
    return {
        key: [_pool(of_repeat, repeat=number, task=task) for number, of_repeat in repeats.items()]
        for key, repeats in rows_by_repeat(rows).items()
    }


def branches_of(pooled: Sequence[PooledClasses], *, task: TaskConfig) -> dict[str, list[PooledRepeat]]:
    """The repeats of each branch, by the name of its class."""
    by_repeat = [one.branches(task) for one in pooled]
    return {name: [one[k] for one in by_repeat] for k, name in enumerate(task.branch_names)}


def _pool(rows: Sequence[PredictionRow], *, repeat: int, task: TaskConfig) -> PooledClasses:
    scores = np.array([[row.scores[name] for name in task.names] for row in rows])
    calls = np.array([[row.called[name] for name in task.branch_names] for row in rows])
    return PooledClasses(
        repeat=repeat,
        bags=tuple((key_of(row).fold, row.slide_id) for row in rows),
        cases=tuple(row.case_id for row in rows),
        labels=np.array([task.label_of(row.label) for row in rows]),
        class_scores=scores,
        predicted=predicted_classes(scores, task=task),
        called=tuple(None if np.isnan(one).any() else one == 1 for one in calls.T),
    )
