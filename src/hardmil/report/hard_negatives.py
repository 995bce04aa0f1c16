"""Rows of hard_negatives.csv -> which of them a page shows, by cluster and slide in turn."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from hardmil.files.csv_table import Row
from hardmil.pictures.patch_pictures import GalleryItem

MAX_HARD_NEGATIVES = 24


@dataclass(frozen=True)
class GallerySelection:
    """The hard negatives to show, and what they were chosen from, counted by cluster.

    `training` names the one training that the clusters are of; empty where nothing was clustered.
    """

    items: Sequence[GalleryItem]
    n_by_cluster: dict[int, int]
    training: str = ""


def hard_negatives_shown(
    rows: Sequence[Row], *, arm: str = "", most: int = MAX_HARD_NEGATIVES
) -> GallerySelection:
    """The hardest mined instances, each once, cluster after cluster and slide after slide in turn.

    Each training clusters what it mined anew, so cluster 3 of one is not cluster 3 of another: where there
    are clusters, all that is shown is of one training, that of `arm` if it clustered, which mined most.
    """
    rows, training = _of_one_training(rows, arm=arm)
    once: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda row: -float(row["attention"])):
        once.setdefault((row["slide_id"], row["instance"]), row)
    placed = [row for row in once.values() if int(row["size_level0"]) > 0]
    by_cluster = [
        _in_turn(_grouped(members, by=lambda row: row["slide_id"]))
        for members in _grouped(placed, by=lambda row: row["cluster"])
    ]
    items = [gallery_item(row) for row in _in_turn(by_cluster)[:most]]
    return GallerySelection(items, dict(Counter(int(row["cluster"]) for row in once.values())), training)


def gallery_item(row: Row) -> GalleryItem:
    """A row as what a gallery shows."""
    return GalleryItem(
        slide_id=row["slide_id"],
        x=int(row["x"]),
        y=int(row["y"]),
        size_level0_px=int(row["size_level0"]),
        attention=float(row["attention"]),
        bag_score=float(row["bag_score"]),
        cluster=int(row["cluster"]),
        round=int(row["round"]),
        source=row["source"],
        arm=row.get("arm", ""),
    )


def _of_one_training(rows: Sequence[Row], *, arm: str) -> tuple[Sequence[Row], str]:
    """The rows of one training and its name; all of them, without a name, where there are no clusters."""
    clustered = [row for row in rows if int(row["cluster"]) >= 0]
    if not clustered or "fold" not in rows[0]:
        return rows, ""
    names = {row["arm"] for row in clustered}
    kept = [row for row in clustered if row["arm"] == (arm if arm in names else clustered[0]["arm"])]
    trainings = Counter((row["arm"], row["repeat"], row["fold"]) for row in kept)
    (name, repeat, fold), _ = trainings.most_common(1)[0]
    here = [row for row in rows if (row["arm"], row["repeat"], row["fold"]) == (name, repeat, fold)]
    return here, f"arm {name}, repeat {repeat}, fold {fold}"


def _grouped(rows: Iterable[Row], *, by: Callable[[Row], Hashable]) -> list[list[Row]]:
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return list(groups.values())


def _in_turn(queues: Sequence[Sequence[Row]]) -> list[Row]:
    longest = max(map(len, queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
