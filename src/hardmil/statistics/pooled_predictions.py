"""The predictions of an arm, pooled over the folds of each repeat."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from hardmil.evaluation.results import ArmKey, PredictionRow, key_of

THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class PooledRepeat:
    """The predictions of an arm for all held-out slides in one repeat.

    `bags` are (fold, slide_id), in the order of the arrays. `called_at_op` is whether a bag was called
    positive at the operating point, which was set inside its training fold; None if a row has no such call.
    `called` is whether a bag was called positive without one; None for calls at a score above 0.5.
    """

    repeat: int
    bags: tuple[tuple[int, str], ...]
    cases: tuple[str, ...]
    labels: Int[np.ndarray, " bag"]
    scores: Float[np.ndarray, " bag"]
    called_at_op: Bool[np.ndarray, " bag"] | None
    called: Bool[np.ndarray, " bag"] | None = None

    @property
    def calls(self) -> Bool[np.ndarray, " bag"]:
        """Whether each bag is called positive without an operating point."""
        return self.scores > THRESHOLD if self.called is None else self.called


def pool_predictions(rows: Iterable[PredictionRow], *, positive: str) -> dict[ArmKey, list[PooledRepeat]]:
    """The repeats of each arm, in the order of their numbers; arms in the order of their rows.

    Args:
        rows: Rows of trials.
        positive: Name of the positive class.
    """
    return {
        key: [_pool(of_repeat, repeat=number, positive=positive) for number, of_repeat in repeats.items()]
        for key, repeats in rows_by_repeat(rows).items()
    }


def rows_by_repeat(rows: Iterable[PredictionRow]) -> dict[ArmKey, dict[int, list[PredictionRow]]]:
    """The rows of each repeat of each arm, in the order of their numbers; arms in the order of their rows.

    Rows are sorted, so that arms whose trials ran in another order still match slide by slide.
    """
    found: dict[ArmKey, dict[int, list[PredictionRow]]] = {}
    for row in rows:
        trial = key_of(row)
        found.setdefault(trial.arm_key, {}).setdefault(trial.repeat, []).append(row)
    return {
        key: {number: sorted(repeats[number], key=_place) for number in sorted(repeats)}
        for key, repeats in found.items()
    }


def _place(row: PredictionRow) -> tuple[int, str]:
    return key_of(row).fold, row.slide_id


def _pool(rows: Sequence[PredictionRow], *, repeat: int, positive: str) -> PooledRepeat:
    calls = [row.op_prediction for row in rows]
    return PooledRepeat(
        repeat=repeat,
        bags=tuple((key_of(row).fold, row.slide_id) for row in rows),
        cases=tuple(row.case_id for row in rows),
        labels=np.array([int(row.label == positive) for row in rows]),
        scores=np.array([row.bag_score for row in rows]),
        called_at_op=np.array([call == positive for call in calls]) if all(calls) else None,
    )
