"""Rows of predictions.csv -> an arm's predictions, pooled over the folds of each repeat."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from hardmil.files.csv_table import Row

ArmKey = tuple[str, str, str]
"""Arm, split and patches: rows under one key are of one arm on the same folds."""


@dataclass(frozen=True, eq=False)
class PooledRepeat:
    """All that an arm said of held-out slides in one repeat.

    `bags` says which they were, (fold, slide_id), in the order of the arrays. `called_at_op` is whether a bag
    was called positive at the operating point, the threshold that was set inside its training fold; None
    where a row does not say.
    """

    repeat: str
    bags: tuple[tuple[str, str], ...]
    cases: tuple[str, ...]
    labels: Int[np.ndarray, " bag"]
    scores: Float[np.ndarray, " bag"]
    called_at_op: Bool[np.ndarray, " bag"] | None


def arm_key(row: Mapping[str, str]) -> ArmKey:
    """Which arm, on which folds, a row belongs to."""
    return row["arm"], row["split"], row["patches"]


def pool_predictions(rows: Iterable[Row], *, positive: str) -> dict[ArmKey, list[PooledRepeat]]:
    """The repeats of each arm, in the order of their numbers; arms in the order of their rows.

    Args:
        rows: Rows of predictions.csv.
        positive: Name of the positive class.
    """
    found: dict[ArmKey, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(arm_key(row), {}).setdefault(row["repeat"], []).append(row)
    return {
        key: [_pool(repeats[number], repeat=number, positive=positive) for number in sorted(repeats, key=int)]
        for key, repeats in found.items()
    }


def _pool(rows: Sequence[Row], *, repeat: str, positive: str) -> PooledRepeat:
    # Sorted, so that arms run in another order still meet bag by bag.
    rows = sorted(rows, key=lambda row: (row["fold"], row["slide_id"]))
    calls = [row.get("op_prediction") or "" for row in rows]
    return PooledRepeat(
        repeat=repeat,
        bags=tuple((row["fold"], row["slide_id"]) for row in rows),
        cases=tuple(row["case_id"] for row in rows),
        labels=np.array([int(row["label"] == positive) for row in rows]),
        scores=np.array([float(row["bag_score"]) for row in rows]),
        called_at_op=np.array([call == positive for call in calls]) if all(calls) else None,
    )
