"""Whose attention is shown, with more than two classes: the predicted class, one by name, or all."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.slide_table import SlideRow
from hardmil.config.task import TaskConfig
from hardmil.errors import ConfigError
from hardmil.mil.bag_score import BagScore
from hardmil.mil.class_scores import called_class
from hardmil.pictures.bag_heatmap import slide_attention
from hardmil.pictures.heatmap import SlideAttention

ALL_CLASSES = "all"


@dataclass(frozen=True, eq=False)
class ShownBranch:
    """The output of a branch, ready to be drawn; its pictures go to `folder` below that of the heat maps."""

    attention: SlideAttention
    folder: str = ""


def check_shown_class(name: str | None, *, task: TaskConfig) -> None:
    """Check that the attention of a class can be shown.

    Raises:
        ConfigError: If there are two classes, or no such class; those that can be shown are named.
    """
    if name is None:
        return
    if task.is_binary:
        raise ConfigError(f"--class {name}: the bundle has two classes, and attention for one; leave it out")
    if name not in (*task.branch_names, ALL_CLASSES):
        known = ", ".join(task.branch_names)
        negative = f"; {name} is the negative class, for which nothing speaks" if name in task.names else ""
        raise ConfigError(f"--class {name}: expected one of {known}, or {ALL_CLASSES}{negative}")


def predicted_branch(score: BagScore, *, task: TaskConfig) -> int:
    """The branch of the predicted class; 0 where there are two classes.

    In a multi-label study, that of the class with the highest score.
    """
    if score.class_scores is None:
        return 0
    called = called_class(score.class_scores, task=task)
    return task.branch_of(called, class_scores=score.class_scores)


def shown_branches(
    bag: Bag,
    row: SlideRow,
    *,
    score: BagScore,
    classes: Sequence[str],
    task: TaskConfig,
    wanted: str | None = None,
) -> list[ShownBranch]:
    """What heat maps are drawn of: one branch, or all.

    Args:
        bag: The bag.
        row: Its slide.
        score: The output of the model.
        classes: The names of the classes.
        task: The classes as the model tells them apart.
        wanted: A class, or "all"; None: the predicted class.
    """
    if task.is_binary:
        return [ShownBranch(_attention(bag, row, score, classes=(classes[0], classes[1])))]
    numbers = range(task.n_branches) if wanted == ALL_CLASSES else [predicted_branch(score, task=task)]
    if wanted in task.branch_names:
        numbers = [task.branch_names.index(wanted)]
    folders = class_folders(task.branch_names)
    return [
        ShownBranch(
            branch_attention(bag, row, score=score, task=task, branch=number),
            folder="" if wanted is None else folders[number],
        )
        for number in numbers
    ]


def branch_attention(
    bag: Bag, row: SlideRow, *, score: BagScore, task: TaskConfig, branch: int
) -> SlideAttention:
    """The output of one of the branches of more than two classes, with its score, ready to be drawn."""
    title = task.branch_titles[branch]
    others = f"no {title}" if task.multi_label else "lower classes" if task.ordinal else "other classes"
    of_branch = relative_branch(score, branch=branch, task=task)
    return slide_attention(
        bag,
        attention=of_branch.attention,
        bag_score=branch_score(score, task=task, branch=branch),
        label=row.label,
        mpp=row.mpp,
        contribution=of_branch.contribution,
        classes=(others, title),
        shown_class=title,
    )


def relative_branch(score: BagScore, *, branch: int, task: TaskConfig) -> BagScore:
    """The output of a branch in which 0 means that a patch speaks neither for its class nor against it.

    Without a negative class, whose logit is 0, the scores of exclusive classes depend only on differences
    between their logits; then logits and contributions are those of the branch minus the mean of all.
    """
    of_branch = score.branches[branch]
    if task.negative_label is not None:
        return of_branch
    logits = np.stack([one.instance_logit for one in score.branches])
    of_all = [one.contribution for one in score.branches if one.contribution is not None]
    return replace(
        of_branch,
        instance_logit=of_branch.instance_logit - logits.mean(axis=0),
        contribution=of_branch.contribution - np.mean(of_all, axis=0) if of_all else None,
    )


def branch_score(score: BagScore, *, task: TaskConfig, branch: int) -> float:
    """The score of a branch: of its class among all; of ordered classes, of this class or a higher one."""
    if score.class_scores is None:
        return score.bag_score
    return float(task.branch_scores(score.class_scores)[branch])


def class_folders(names: Sequence[str]) -> list[str]:
    """A folder for each class: its name with only letters, digits, spaces, - and _."""
    found: list[str] = []
    for number, name in enumerate(names):
        plain = re.sub(r"[^\w -]", "_", name).strip() or "_"
        found.append(f"{plain}-{number}" if plain in found else plain)
    return found


def _attention(bag: Bag, row: SlideRow, score: BagScore, *, classes: tuple[str, str]) -> SlideAttention:
    return slide_attention(
        bag,
        attention=score.attention,
        bag_score=score.bag_score,
        label=row.label,
        mpp=row.mpp,
        contribution=score.contribution,
        classes=classes,
    )
