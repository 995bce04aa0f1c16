"""Folds stratified by label that never split a case, and the check for leaks.

Where a bag may have several classes, its label is a row of an array instead, `TaskConfig.strata`: the first
half of the columns says which classes it has, the second half which it has not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from hardmil.bags.spread_labels import spread_over_folds
from hardmil.errors import FoldError

CLASS_NAMES = ("negative", "positive")
"""Of label 0 and 1, for messages."""
MAX_DRAWS = 50
"""With several labels and few cases, not every draw has training slides with and without each class."""
Labels = Int[np.ndarray, " bag"] | Bool[np.ndarray, "bag stratum"]


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions of the bags in each part of one split, ascending."""

    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    validation: Int[np.ndarray, " validation"] | None = None


def repeated_folds(
    labels: Labels,
    cases: Sequence[str],
    *,
    n_folds: int,
    n_repeats: int,
    seed: int,
    names: Sequence[str] = (),
) -> list[list[Fold]]:
    """Folds stratified by label that keep the slides of a case together, as `[repeat][fold]`.

    Each repeat is drawn independently, and tests each bag once. A case may have slides of several labels.

    Args:
        labels: Positions of classes, or `TaskConfig.strata`.
        cases: The case of each bag.
        n_folds: Number of folds.
        n_repeats: How often they are drawn.
        seed: Seed of the draws.
        names: Of more than two classes, for messages.

    Raises:
        FoldError: If a class has fewer cases than folds, or is missing from a training side.
    """
    label, n_cases = _rarest_class(labels, cases)
    if n_cases < n_folds:
        advice = f"use {n_cases} folds (evaluation.folds), or add cases" if n_cases > 1 else "add cases"
        raise FoldError(
            f"{_class_words(label, labels, names)}: {n_cases} cases for {n_folds} folds; "
            f"expected at least one per fold; {advice}"
        )
    draws = np.random.SeedSequence(seed).generate_state(n_repeats)
    repeats = [_draw(labels, cases, n_folds=n_folds, seed=int(draw)) for draw in draws]
    for folds in repeats:
        check_folds(folds, cases)
        check_classes(folds, labels, names=names)
    return repeats


def inner_folds(labels: Labels, cases: Sequence[str], *, n_folds: int, seed: int) -> list[Fold]:
    """Folds of the training bags, to score each bag with a model that was not trained on it.

    As `repeated_folds`, but if a class has fewer cases than folds, there are as many folds as cases.

    Raises:
        FoldError: If a class has fewer than two cases, or is missing from a training side.
    """
    label, n_cases = _rarest_class(labels, cases)
    if n_cases < 2:
        raise FoldError(
            f"{_class_words(label, labels)}: {n_cases} cases among the training bags; expected "
            "two of each class for out-of-fold mining and validation; use mining.source train and "
            "training.select train-loss, or add cases"
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


def check_classes(folds: Sequence[Fold], labels: Labels, *, names: Sequence[str] = ()) -> None:
    """Check that training and validation of each fold together have all labels.

    Args:
        folds: Positions of bags.
        labels: The position of its class for each bag, or `TaskConfig.strata`.
        names: Of more than two classes, for messages.

    Raises:
        FoldError: If one has not; the fold and the label are named.
    """
    n_classes = n_classes_of(labels)
    for number, fold in enumerate(folds):
        sides = (fold.train,) if fold.validation is None else (fold.train, fold.validation)
        found = labels[np.concatenate(sides)]
        if labels.ndim == 2:
            _check_answers(found, where=f"fold {number}", names=names)
            continue
        missing = sorted(set(range(n_classes)) - set(found.tolist()))
        if n_classes > 2 and missing:
            raise FoldError(
                f"fold {number}: no training slide is of {_class_words(missing[0], labels, names)}; "
                "expected slides of all classes; correct the splits, use another seed, or add cases"
            )
        if n_classes <= 2 and len(np.unique(found)) == 1:
            raise FoldError(
                f"fold {number}: all {len(found)} training slides are {CLASS_NAMES[int(found[0])]}; expected "
                "both labels, or nothing can be learned; correct the splits, use another seed, or add cases"
            )


def _check_answers(found: np.ndarray, *, where: str, names: Sequence[str]) -> None:
    """Check that training slides with and without each class are there."""
    for stratum in np.flatnonzero(~found.any(axis=0)).tolist():
        raise FoldError(
            f"{where}: no {_class_words(stratum, found, names)} among the {len(found)} training slides; "
            "expected slides with each class and without it; correct the splits, use another seed, or add "
            "cases"
        )


def possible_inner_folds(labels: Labels, cases: Sequence[str], *, n_folds: int, seed: int) -> list[Fold]:
    """As `inner_folds`; empty if they cannot be drawn."""
    try:
        return inner_folds(labels, cases, n_folds=n_folds, seed=seed)
    except FoldError:
        return []


def _rarest_class(labels: np.ndarray, cases: Sequence[str]) -> tuple[int, int]:
    """The class, or stratum, of which the fewest cases have a slide, and the number of these cases."""
    if labels.ndim == 2:
        by_stratum = _by_case(labels, cases)[1].sum(axis=0)
        return int(np.argmin(by_stratum)), int(by_stratum.min())
    n_cases = {
        c: len({case for label, case in zip(labels, cases, strict=True) if label == c})
        for c in range(n_classes_of(labels))
    }
    return min(n_cases.items(), key=lambda pair: pair[1])


def _by_case(strata: np.ndarray, cases: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The case of each bag as a number, and [case, stratum]: whether a case has a slide of each stratum."""
    names, case_of = np.unique(np.asarray(cases), return_inverse=True)
    has = np.zeros((len(names), strata.shape[1]), dtype=bool)
    np.logical_or.at(has, case_of, strata)
    return case_of, has


def n_classes_of(labels: Labels) -> int:
    """The number of classes that these labels are positions of, two at least; or of strata."""
    if labels.ndim == 2:
        return labels.shape[1]
    return max(2, int(labels.max(initial=0)) + 1)


def _class_words(label: int, labels: np.ndarray, names: Sequence[str] = ()) -> str:
    """A class in messages: by its name, if known; of more than two classes, otherwise by its position.

    Of strata: the slides with a class, or without it.
    """
    n_classes = n_classes_of(labels)
    if labels.ndim == 2:
        is_without, number = divmod(label, n_classes // 2)
        name = names[number] if names else f"{number + 1} of {n_classes // 2}"
        return f"slides {'without' if is_without else 'with'} class {name}"
    if names:
        return f"class {names[label]}"
    return f"{CLASS_NAMES[label]} class" if n_classes == 2 else f"class {label + 1} of {n_classes}"


def fewest_cases(labels: Labels, cases: Sequence[str]) -> int:
    """The number of cases with a slide of the rarer class."""
    return _rarest_class(labels, cases)[1]


def _draw_spread(strata: np.ndarray, cases: Sequence[str], *, n_folds: int, seed: int) -> list[Fold]:
    """Folds whose training sides have all strata, if some draw has such folds."""
    case_of, has = _by_case(strata, cases)
    fold_of = np.zeros(len(has), np.int64)
    for draw in np.random.SeedSequence(seed).generate_state(MAX_DRAWS):
        fold_of = spread_over_folds(has, n_folds=n_folds, seed=int(draw))
        if all(has[fold_of != k].any(axis=0).all() for k in range(n_folds)):
            break
    sides = [fold_of[case_of] == k for k in range(n_folds)]
    return [Fold(np.flatnonzero(~is_test), np.flatnonzero(is_test)) for is_test in sides]


def _draw(labels: np.ndarray, cases: Sequence[str], *, n_folds: int, seed: int) -> list[Fold]:
    if labels.ndim == 2:
        return _draw_spread(labels, cases, n_folds=n_folds, seed=seed)
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    blank = np.zeros(len(labels))
    if len(set(cases)) == len(cases):
        drawn = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(blank, labels)
    else:
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        drawn = splitter.split(blank, labels, groups=np.array(cases, dtype=object))
    return [Fold(train=np.sort(train), test=np.sort(test)) for train, test in drawn]
