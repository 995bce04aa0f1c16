"""What is known about single patches: to measure attention and mining, never for training."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int8

from hardmil.bags.bag import Bag
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.files.geojson import Region
from hardmil.metrics import binary_metrics, mean_and_se
from hardmil.mil.bag_score import BagScore
from hardmil.mil.class_scores import branch_of
from hardmil.mining.hard_instances import HardInstance

# The axis has no name, because bags differ in size.
Truth = Int8[np.ndarray, " _"]
"""One code for each instance: 1 lesion, 2 look-alike (not a lesion, but similar to one), 0 anything else."""
LESION, LOOK_ALIKE = 1, 2
KINDS = {"look-alike": LOOK_ALIKE, "lesion": LESION}
"""What the first word of the name of a region says; the rest may name a class."""
LEAST_SHARE = 0.25
"""A patch is a lesion if this share of it is; otherwise a look-alike if this share of it is."""


def instance_auc(
    bags: Sequence[Bag],
    *,
    scores: Sequence[BagScore],
    truth: Mapping[str, Truth],
    task: TaskConfig = TWO_CLASSES,
) -> float:
    """AUC of attention for lesions among the instances of a positive bag; mean over the positive bags.

    Bags without known truth, or with only one kind of instance, are left out; NaN if no bag is left. With
    more than two classes, all bags but those of the negative class are positive, and the attention is that of
    the branch of the bag's class. In a multi-label study, only bags of one class count, as the truth does not
    name the class of a lesion.
    """
    values = [
        binary_metrics(
            (truth[bag.slide_id] == LESION).astype(np.int64), branch_of(score, bag.label, task=task).attention
        ).auc
        for bag, score in zip(bags, scores, strict=True)
        if task.only_class(bag.label) is not None and bag.slide_id in truth
    ]
    return mean_and_se(values).mean


def share_of_look_alikes(
    pool: Iterable[HardInstance], *, bags: Sequence[Bag], truth: Mapping[str, Truth]
) -> float:
    """Share of mined instances that are look-alikes; NaN if nothing was mined or nothing is known."""
    pool = [one for one in pool if one.slide_id in truth]
    mined = {one.slide_id for one in pool}
    by_corner = {bag.slide_id: bag.index_by_corner() for bag in bags if bag.slide_id in mined}
    codes = [truth[one.slide_id][by_corner[one.slide_id][one.x, one.y]] for one in pool]
    return mean_and_se(float(code == LOOK_ALIKE) for code in codes).mean


def verdicts_of_truth(
    truth: Mapping[str, Truth], *, labels: Mapping[str, int], task: TaskConfig = TWO_CLASSES
) -> dict[str, Float32[np.ndarray, " _"]]:
    """The verdicts of a person who is never wrong: lesion (of the class of the slide) or normal.

    Values are those of `Reviewer`. Nothing is known about the lesions of a slide of several classes.
    """
    found: dict[str, Float32[np.ndarray, " _"]] = {}
    for slide_id, codes in truth.items():
        label = task.only_class(labels[slide_id]) if task.multi_label else labels[slide_id]
        lesion = 1 if task.is_binary else np.nan if label is None else 1 + label
        found[slide_id] = np.where(codes == LESION, lesion, 0).astype(np.float32)
    return found


def truth_of_regions(bag: Bag, *, regions: Sequence[Region]) -> Truth:
    """Codes of the patches of a bag, from regions named "lesion" and "look-alike", or "lesion a"."""
    codes = np.zeros(len(bag), dtype=np.int8)
    for code in KINDS.values():
        outlines = [one.polygon for one in regions if kind_of_region(one.name) == code]
        codes[_covered(bag, outlines=outlines) >= LEAST_SHARE] = code
    return codes


def kind_of_region(name: str) -> int | None:
    """LESION or LOOK_ALIKE by the name of a region; None if it is neither."""
    return KINDS.get(name.partition(" ")[0])


def _covered(bag: Bag, *, outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Share of each patch that is inside one of the outlines."""
    import cv2

    width, height = (int(edge) for edge in bag.coords.max(axis=0) + bag.size_level0_px)
    drawn = np.zeros((height, width), np.uint8)
    if outlines:
        cv2.fillPoly(drawn, [np.rint(outline).astype(np.int32) for outline in outlines], 1)
    size = bag.size_level0_px
    return np.array([drawn[y : y + size, x : x + size].mean() for x, y in bag.coords.tolist()])
