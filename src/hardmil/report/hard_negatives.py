"""The hard negatives that a page shows, taking clusters and slides in turn."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from hardmil.evaluation.results import HardNegativeRow
from hardmil.pictures.patch_pictures import GalleryItem

MAX_HARD_NEGATIVES = 24
MAX_OF_A_CLASS = 12
"""With many classes, there may be more in all."""


@dataclass(frozen=True)
class GallerySelection:
    """The hard negatives to show, and the number of candidates in each cluster of each class.

    `training` is the training that the clusters are from; empty if nothing was clustered, or by one training
    only.
    """

    items: Sequence[GalleryItem]
    n_by_cluster: dict[tuple[str, int], int]
    training: str = ""


def select_hard_negatives(
    rows: Sequence[HardNegativeRow], *, arm: str = "", limit: int = MAX_HARD_NEGATIVES
) -> GallerySelection:
    """The hardest mined instances, each once, taking classes, clusters and slides in turn.

    Each training clusters what it mined for itself: cluster 3 of one training is not cluster 3 of another.
    Where there are clusters, all instances shown are from one training: that of `arm` if it clustered, and of
    these the one that mined most.
    """
    rows, training = _of_one_training(rows, arm=arm)
    once: dict[tuple[object, ...], HardNegativeRow] = {}
    for row in sorted(rows, key=lambda row: -row.mined.attention):
        once.setdefault((*row.mined.key, row.mined.hard_for), row)
    with_coords = [row for row in once.values() if row.mined.size_level0 > 0]
    by_cluster = [
        _in_turn(_grouped(members, by=lambda row: row.mined.slide_id))
        for members in _grouped(with_coords, by=_cluster)
    ]
    n_classes = len({row.mined.hard_for for row in with_coords} - {""})
    limit = max(limit, MAX_OF_A_CLASS * n_classes)
    items = [gallery_item(row) for row in _in_turn(by_cluster)[:limit]]
    return GallerySelection(items, dict(Counter(map(_cluster, once.values()))), training)


def gallery_item(row: HardNegativeRow) -> GalleryItem:
    """A row as an item of a gallery."""
    mined = row.mined
    return GalleryItem(
        slide_id=mined.slide_id,
        x=mined.x,
        y=mined.y,
        size_level0_px=mined.size_level0,
        attention=mined.attention,
        bag_score=mined.bag_score,
        cluster=mined.cluster,
        round=mined.round,
        source=mined.source,
        arm=row.trial.arm if row.trial else "",
        hard_for=mined.hard_for,
    )


def _cluster(row: HardNegativeRow) -> tuple[str, int]:
    """Each class has clusters of its own."""
    return row.mined.hard_for, row.mined.cluster


def _of_one_training(rows: Sequence[HardNegativeRow], *, arm: str) -> tuple[Sequence[HardNegativeRow], str]:
    """The rows of one training, and its name if there are others; all rows where there are no clusters."""
    clustered = [row.trial for row in rows if row.trial is not None and row.mined.cluster >= 0]
    if not clustered:
        return rows, ""
    wanted = arm if any(trial.arm == arm for trial in clustered) else clustered[0].arm
    chosen, _ = Counter(trial for trial in clustered if trial.arm == wanted).most_common(1)[0]
    here = [row for row in rows if row.trial == chosen]
    name = f"arm {chosen.arm}, repeat {chosen.repeat}, fold {chosen.fold}"
    return here, name if len(set(clustered)) > 1 else ""


def _grouped(
    rows: Iterable[HardNegativeRow], *, by: Callable[[HardNegativeRow], Hashable]
) -> list[list[HardNegativeRow]]:
    groups: dict[Hashable, list[HardNegativeRow]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return list(groups.values())


def _in_turn(queues: Sequence[Sequence[HardNegativeRow]]) -> list[HardNegativeRow]:
    longest = max(map(len, queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
