"""Verdicts of a person on patches: reading them, using them as instance labels, choosing which to use."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int

from hardmil.bags.bag import Bag
from hardmil.bags.clusters import cluster_instances
from hardmil.config.mining import MiningConfig
from hardmil.config.task import NONE, TWO_CLASSES, TaskConfig
from hardmil.errors import EmptyBagError, TableError
from hardmil.files.user_table import read_user_table
from hardmil.mil.bag_score import BagScore
from hardmil.mil.class_scores import branch_of

VALUES = {"lesion": 1.0, "normal": 0.0, "artefact": -1.0, "unsure": np.nan}
ARTEFACT = VALUES["artefact"]
LESION = np.inf
"""With more than two classes: of the class of the slide."""

# The axis has no name, because bags differ in size.
Reviewer = Mapping[str, Float[np.ndarray, " _"]]
"""Verdicts on instances by slide_id: 1 lesion, 0 normal, -1 artefact, NaN not judged or unsure.

With more than two classes, a lesion is 1 plus the position of its class.
"""


def read_verdicts(
    path: Path, bags: Sequence[Bag], *, task: TaskConfig = TWO_CLASSES
) -> dict[str, Float[np.ndarray, " _"]]:
    """The verdicts of a table on the instances of these bags.

    A verdict belongs to the patch with this top-left corner; of two verdicts on one patch, the later counts.
    Slides without a bag are ignored, as long as one slide of the table has a bag.

    Args:
        path: Columns slide_id, x, y (level-0 px), verdict: lesion, normal, artefact or unsure. With more than
            two classes, also the name of a class; lesion is that of the slide, and the negative class is
            normal. In a multi-label study, none is normal.
        bags: Bags with known patch coordinates.
        task: The classes.

    Raises:
        TableError: If the table or a column is missing, a verdict is none of these, no patch has this
            corner, or no slide of the table has a bag.
    """
    values = verdict_values(task)
    judged = {bag.slide_id: np.full(len(bag), np.nan, dtype=np.float32) for bag in bags}
    corners = {bag.slide_id: bag.index_by_corner() for bag in bags}
    labels = {bag.slide_id: bag.label for bag in bags}
    table = read_user_table(path, what="a table of verdicts")
    table.require("slide_id", "x", "y", "verdict")
    for number, row in table.lines:
        slide_id, verdict = row["slide_id"], row["verdict"].lower().replace("artifact", "artefact")
        if verdict not in values:
            raise TableError(
                f"{path}, line {number}: verdict {row['verdict']!r} on slide {slide_id}; expected one of "
                f"{', '.join(values)}; correct it"
            )
        if slide_id in corners:
            value = values[verdict]
            if value == LESION and not task.is_binary:
                value = _of_slide(
                    labels[slide_id], task=task, where=f"{path}, line {number}: slide {slide_id}"
                )
            judged[slide_id][_instance(path, number, row, corners[slide_id])] = value
    _check_matched(path, {row["slide_id"] for _, row in table.lines}, bags=corners)
    return judged


def verdict_values(task: TaskConfig) -> dict[str, float]:
    """The value of each word; lesion, with more than two classes, is replaced by the class of the slide."""
    if task.is_binary:
        return VALUES
    classes = {name.lower(): 1.0 + number for number, name in enumerate(task.names)}
    if task.multi_label:
        return {**VALUES, "lesion": LESION, NONE: VALUES["normal"], **classes}
    if task.negative_class is not None:
        classes[task.names[task.negative_class].lower()] = VALUES["normal"]
    return {**VALUES, "lesion": LESION, **classes}


def doubting_values(label: int, *, task: TaskConfig) -> list[float]:
    """The values of verdicts that find on a slide what its label rules out, and so put the label in doubt."""
    first = 0.0 if task.is_binary else 1.0
    found = [
        first + other
        for other in range(task.n_classes)
        if any(
            task.is_yes(task.label_of_class(other), branch=branch) and task.is_free(label, branch=branch)
            for branch in range(task.n_branches)
        )
    ]
    return [*found, LESION] if label == task.negative_label else found


def _of_slide(label: int, *, task: TaskConfig, where: str) -> float:
    only = task.only_class(label)
    if only is None:
        raise TableError(
            f"{where} is of class {task.label_text(label)}, and a patch of it is called a lesion; expected "
            f"the name of its class, one of {', '.join(task.names)}; correct it"
        )
    return 1.0 + only


def instance_labels(
    values: Float[np.ndarray, " instance"], *, task: TaskConfig
) -> Float32[np.ndarray, " instance *branch"]:
    """Verdicts as labels of instances: 1 or 0 for each branch, NaN where nothing is known.

    In a multi-label study, a class on a patch says nothing about the others, as a patch may have several.
    """
    if task.is_binary:
        return values.astype(np.float32)
    labels = np.full((len(values), task.n_branches), np.nan, np.float32)
    for branch in range(task.n_branches):
        labels[values == VALUES["normal"], branch] = 0
        if task.multi_label:
            labels[values == 1 + branch, branch] = 1
            continue
        for label in range(task.n_classes):
            labels[values == 1 + label, branch] = task.is_yes(label, branch=branch)
    return labels


def _check_matched(path: Path, slide_ids: set[str], *, bags: Mapping[str, object]) -> None:
    if not slide_ids:
        raise TableError(f"{path}: no verdicts below the header; expected one line for each judged patch")
    if slide_ids.isdisjoint(bags):
        raise TableError(
            f"{path}: none of its slides has a bag: found {_first(slide_ids)}; expected slide "
            f"ids of the study, such as {_first(bags)}; correct the slide_id"
        )


def _first(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:3])


def _instance(path: Path, number: int, row: Mapping[str, str], corners: Mapping[tuple[int, int], int]) -> int:
    try:
        return corners[_whole(row["x"]), _whole(row["y"])]
    except (KeyError, ValueError, OverflowError) as error:
        raise TableError(
            f"{path}, line {number}: no patch of slide {row['slide_id']} has its corner at x {row['x']}, "
            f"y {row['y']}; expected the top-left corner of a patch, in level-0 px; correct it, or, if the "
            "patches were extracted again since, judge them again"
        ) from error


def _whole(text: str) -> int:
    """A whole number, also as pandas writes it where a column has empty cells: 128.0."""
    value = float(text)
    if value % 1 != 0:
        raise ValueError(text)
    return int(value)


def reviewer_digest(verdicts: Reviewer) -> str:
    """A hash that changes with any verdict."""
    digest = hashlib.blake2b(digest_size=8)
    for slide_id in sorted(verdicts):
        digest.update(f"{slide_id}\0".encode())
        digest.update(verdicts[slide_id].tobytes())
    return digest.hexdigest()


def judged_bags(bags: Sequence[Bag], *, verdicts: Reviewer, task: TaskConfig = TWO_CLASSES) -> list[Bag]:
    """The bags with verdicts as instance labels, without the instances judged artefacts.

    Raises:
        EmptyBagError: If every instance of a bag is an artefact.
    """
    return [
        _judged(bag, values=verdicts[bag.slide_id], task=task) if bag.slide_id in verdicts else bag
        for bag in bags
    ]


def _judged(bag: Bag, *, values: Float[np.ndarray, " instance"], task: TaskConfig) -> Bag:
    kept = np.flatnonzero(values != ARTEFACT)
    if len(kept) == 0:
        raise EmptyBagError(
            f"slide {bag.slide_id}: every patch was judged an artefact; expected at least one that is not; "
            "remove the slide from the table"
        )
    if np.isnan(values).all():
        return bag
    return replace(bag.take(kept), instance_labels=instance_labels(values[kept], task=task))


def chosen_verdicts(
    bags: Sequence[Bag],
    *,
    known: Reviewer,
    scores: Sequence[Sequence[BagScore]],
    embed: Callable[[Bag], Float[np.ndarray, "instance dim"]],
    config: MiningConfig,
    seed: int,
    task: TaskConfig = TWO_CLASSES,
) -> dict[str, Float[np.ndarray, " _"]]:
    """The verdicts within the budget: `verdict_budget` patches of each positive bag.

    Only of positive bags: in a negative bag, every patch is normal. With more than two classes, those of the
    negative class are negative, and patches are chosen by the branch of the bag's class.

    Args:
        bags: Training bags.
        known: The verdict on each instance.
        scores: The outputs of the trained model for each bag; then, for choice `disagreement`, those of the
            other networks.
        embed: The trained model without its last layer; needed only for choice `spread`.
        config: Budget and choice.
        seed: Seed of random choices and K-means.
        task: The classes.
    """
    values_of: dict[str, Float[np.ndarray, " _"]] = {}
    for bag, *of_networks in zip(bags, *scores, strict=True):
        if bag.label == task.negative_label or bag.slide_id not in known:
            continue
        of_class = [branch_of(one, bag.label, task=task) for one in of_networks]
        chosen = _choose(bag, scores=of_class, embed=embed, config=config, seed=seed)
        values = np.full(len(bag), np.nan, dtype=np.float32)
        values[chosen] = known[bag.slide_id][chosen]
        values_of[bag.slide_id] = values
    return values_of


def _choose(
    bag: Bag,
    *,
    scores: Sequence[BagScore],
    embed: Callable[[Bag], Float[np.ndarray, "instance dim"]],
    config: MiningConfig,
    seed: int,
) -> Int[np.ndarray, " chosen"]:
    n = min(config.verdict_budget or len(bag), len(bag))
    match config.verdict_choice:
        case "attention":
            return np.argsort(-scores[0].attention, kind="stable")[:n]
        case "uncertainty":
            return np.argsort(np.abs(scores[0].instance_logit), kind="stable")[:n]
        case "disagreement":
            return np.argsort(-np.std([one.instance_logit for one in scores], axis=0), kind="stable")[:n]
        case "random":
            rng = np.random.default_rng([seed, zlib.crc32(bag.slide_id.encode())])
            return rng.choice(len(bag), size=n, replace=False)
        case "spread":
            return _one_of_each_cluster(embed(bag), n=n, seed=seed)


def _one_of_each_cluster(
    embeddings: Float[np.ndarray, "instance dim"], *, n: int, seed: int
) -> Int[np.ndarray, " chosen"]:
    """The instance nearest to the centre of each of n K-means clusters; fewer if instances are identical."""
    clusters = cluster_instances(embeddings, n_clusters=n, seed=seed)
    chosen: list[int] = []
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        centre = embeddings[members].mean(axis=0)
        chosen.append(int(members[np.argmin(((embeddings[members] - centre) ** 2).sum(axis=1))]))
    return np.array(chosen, dtype=np.int64)
