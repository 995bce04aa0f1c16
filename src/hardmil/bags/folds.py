"""Folds: by label, never splitting a case; and the check that no fold leaks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from hardmil.errors import FoldError


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions of bags on the sides of one split, ascending."""

    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    validation: Int[np.ndarray, " validation"] | None = None


def repeated_folds(
    labels: Int[np.ndarray, " bag"], cases: Sequence[str], *, n_folds: int, n_repeats: int, seed: int
) -> list[list[Fold]]:
    """Folds stratified by label that keep the slides of a case together, drawn anew each repeat.

    `[repeat][fold]`; in a repeat each bag is tested once. A case may hold slides of both labels.

    Raises:
        FoldError: If a class has fewer cases than folds.
    """
    label, n_cases = _rarest_class(labels, cases)
    if n_cases < n_folds:
        advice = f"use {n_cases} folds, or add cases" if n_cases > 1 else "add cases"
        raise FoldError(
            f"class {label}: {n_cases} cases, fewer than the {n_folds} folds; expected one a fold; {advice}"
        )
    draws = np.random.SeedSequence(seed).generate_state(n_repeats)
    repeats = [_draw(labels, cases, n_folds=n_folds, seed=int(draw)) for draw in draws]
    for folds in repeats:
        check_folds(folds, cases)
    return repeats


def inner_folds(
    labels: Int[np.ndarray, " bag"], cases: Sequence[str], *, n_folds: int, seed: int
) -> list[Fold]:
    """Folds inside the training bags, for scores of a model that never saw the bag.

    As `repeated_folds`, but where a class has fewer cases than folds, as many folds as it has cases.

    Raises:
        FoldError: If a class has fewer than two cases.
    """
    label, n_cases = _rarest_class(labels, cases)
    if n_cases < 2:
        raise FoldError(
            f"class {label}: {n_cases} cases among the training bags; out-of-fold mining and validation "
            "need two of each class; use mining.source train and training.select train-loss, or add cases"
        )
    return repeated_folds(labels, cases, n_folds=min(n_folds, n_cases), n_repeats=1, seed=seed)[0]


def check_folds(folds: Sequence[Fold], cases: Sequence[str]) -> None:
    """Check that no case is on two sides of a fold.

    Args:
        folds: Positions of bags.
        cases: The case of each bag.

    Raises:
        FoldError: If one is; fold and case are named.
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
                        "slides on one side, as the test would otherwise flatter; correct the splits or "
                        "the case_id"
                    )
                seen[case] = side


def _rarest_class(labels: np.ndarray, cases: Sequence[str]) -> tuple[int, int]:
    """Of classes 0 and 1, the one that the fewest cases have a slide of, and how many have."""
    n_cases = {
        c: len({case for label, case in zip(labels, cases, strict=True) if label == c}) for c in (0, 1)
    }
    return min(n_cases.items(), key=lambda pair: pair[1])


def fewest_cases(labels: Int[np.ndarray, " bag"], cases: Sequence[str]) -> int:
    """How many cases have a slide of the class that fewest have one of."""
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
