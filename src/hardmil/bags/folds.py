"""Folds stratified by label that never split a case, and the check for leaks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from hardmil.errors import FoldError

CLASS_NAMES = ("negative", "positive")
"""Of label 0 and 1, for messages."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions of the bags in each part of one split, ascending."""

    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    validation: Int[np.ndarray, " validation"] | None = None


def repeated_folds(
    labels: Int[np.ndarray, " bag"], cases: Sequence[str], *, n_folds: int, n_repeats: int, seed: int
) -> list[list[Fold]]:
    """Folds stratified by label that keep the slides of a case together, as `[repeat][fold]`.

    Each repeat is drawn independently, and tests each bag once. A case may have slides of both labels.

    Raises:
        FoldError: If a class has fewer cases than folds, or a training side has one label only.
    """
    label, n_cases = _rarest_class(labels, cases)
    if n_cases < n_folds:
        advice = f"use {n_cases} folds (evaluation.folds), or add cases" if n_cases > 1 else "add cases"
        raise FoldError(
            f"{CLASS_NAMES[label]} class: {n_cases} cases for {n_folds} folds; expected at least one per "
            f"fold; {advice}"
        )
    draws = np.random.SeedSequence(seed).generate_state(n_repeats)
    repeats = [_draw(labels, cases, n_folds=n_folds, seed=int(draw)) for draw in draws]
    for folds in repeats:
        check_folds(folds, cases)
        check_classes(folds, labels)
    return repeats


def inner_folds(
    labels: Int[np.ndarray, " bag"], cases: Sequence[str], *, n_folds: int, seed: int
) -> list[Fold]:
    """Folds of the training bags, to score each bag with a model that was not trained on it.

    As `repeated_folds`, but if a class has fewer cases than folds, there are as many folds as cases.

    Raises:
        FoldError: If a class has fewer than two cases, or a training side has one label only.
    """
    label, n_cases = _rarest_class(labels, cases)
    if n_cases < 2:
        raise FoldError(
            f"{CLASS_NAMES[label]} class: {n_cases} cases among the training bags; expected two of each "
            "class for out-of-fold mining and validation; use mining.source train and training.select "
            "train-loss, or add cases"
        )
    return repeated_folds(labels, cases, n_folds=min(n_folds, n_cases), n_repeats=1, seed=seed)[0]


def check_folds(folds: Sequence[Fold], cases: Sequence[str]) -> None:
    """Check that no case is in two parts of a fold.

    Args:
        folds: Positions of bags.
        cases: The case of each bag.

    Raises:
        FoldError: If one is; the fold and the case are named.
    """
    for number, fold in enumerate(folds):
        sides = {"train": fold.train, "validation": fold.validation, "test": fold.test}
        seen: dict[str, str] = {}
        for side, positions in sides.items():
            here = [] if positions is None else [cases[int(i)] for i in positions]
            for case in sorted(set(here)):
                if case in seen:
                    raise FoldError(
                        f"fold {number}: case {case} is in {seen[case]} and in {side}; expected all its "
                        "slides in one part, or the test would be too optimistic; correct the splits or "
                        "the case_id"
                    )
                seen[case] = side


def check_classes(folds: Sequence[Fold], labels: Int[np.ndarray, " bag"]) -> None:
    """Check that training and validation of each fold together have both labels.

    Args:
        folds: Positions of bags.
        labels: 0 or 1 for each bag.

    Raises:
        FoldError: If one has not; the fold and the label are named.
    """
    for number, fold in enumerate(folds):
        sides = (fold.train,) if fold.validation is None else (fold.train, fold.validation)
        found = labels[np.concatenate(sides)]
        if len(np.unique(found)) == 1:
            raise FoldError(
                f"fold {number}: all {len(found)} training slides are {CLASS_NAMES[int(found[0])]}; expected "
                "both labels, or nothing can be learned; correct the splits, use another seed, or add cases"
            )


def possible_inner_folds(
    labels: Int[np.ndarray, " bag"], cases: Sequence[str], *, n_folds: int, seed: int
) -> list[Fold]:
    """As `inner_folds`; empty if they cannot be drawn."""
    try:
        return inner_folds(labels, cases, n_folds=n_folds, seed=seed)
    except FoldError:
        return []


def _rarest_class(labels: np.ndarray, cases: Sequence[str]) -> tuple[int, int]:
    """The class, 0 or 1, of which fewer cases have a slide, and the number of these cases."""
    n_cases = {
        c: len({case for label, case in zip(labels, cases, strict=True) if label == c}) for c in (0, 1)
    }
    return min(n_cases.items(), key=lambda pair: pair[1])


def fewest_cases(labels: Int[np.ndarray, " bag"], cases: Sequence[str]) -> int:
    """The number of cases with a slide of the rarer class."""
    return _rarest_class(labels, cases)[1]


def _draw(labels: np.ndarray, cases: Sequence[str], *, n_folds: int, seed: int) -> list[Fold]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    blank = np.zeros(len(labels))
    if len(set(cases)) == len(cases):
        drawn = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(blank, labels)
    else:
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        drawn = splitter.split(blank, labels, groups=np.array(cases, dtype=object))
    return [Fold(train=np.sort(train), test=np.sort(test)) for train, test in drawn]
