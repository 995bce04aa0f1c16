"""Labels as users have them: two or more values of one type."""

from collections.abc import Hashable, Iterator, Sequence
from numbers import Number
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from pydantic import ValidationError

from hardmil.bags.negative_words import the_negative
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.errors import BagError


@runtime_checkable
class LabelTable(Protocol):
    """A table with a column for each label, such as a DataFrame."""

    @property
    def columns(self) -> Any:
        """The names of the labels."""
        ...

    def __len__(self) -> int:
        """Number of bags."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The names of the labels."""
        ...


Labels = Sequence[Hashable] | Shaped[np.ndarray, " bag *label"] | LabelTable
Weights = Sequence[object] | Shaped[np.ndarray, " bag"]


def as_labels(given: Labels | None) -> Labels:
    """The labels as a sequence or an array.

    Raises:
        BagError: If there are none.
    """
    if given is None:
        raise BagError(
            "it requires y to be passed, but the target y is None: expected one label for each bag"
        )
    return given if hasattr(given, "__len__") else np.asarray(given)


def positive_label(classes: Shaped[np.ndarray, "2"], *, wanted: Hashable | None) -> Hashable:
    """The positive one of two labels: as wanted, or the one that is not a usual word for negative.

    Raises:
        BagError: If the wanted one is neither.
    """
    if wanted is None:
        negative = the_negative([str(one) for one in classes])
        return next(one for one in classes[::-1] if str(one) != negative)
    if wanted not in classes.tolist():
        raise BagError(f"positive: {wanted!r}; expected one of the labels, {classes.tolist()}")
    return wanted


def classes_of(labels: Labels, *, n_bags: int) -> Shaped[np.ndarray, " class"]:
    """The labels that occur, two at least, sorted.

    Raises:
        BagError: If there is not one label for each bag, one is missing, all are equal, or they are of
            different types.
    """
    if len(labels) != n_bags:
        raise BagError(f"{len(labels)} labels for {n_bags} bags; expected one for each bag")
    first: dict[str, Hashable] = {}
    for position, label in enumerate(labels):
        _check_label(label, position=position)
        first.setdefault(_type_of(label), label)
    if len(first) > 1:
        raise BagError(
            f"labels of different types: {' and '.join(map(repr, first.values()))}; expected text or "
            "numbers; convert all to one type"
        )
    classes = np.unique(np.asarray(labels))
    if len(classes) == 1:
        raise BagError(
            f"all {n_bags} bags are labelled {classes[0]!s}; expected two labels; add bags of the other"
        )
    if len(classes) > 2 and classes.dtype.kind == "f" and (classes != np.round(classes)).any():
        raise BagError(
            f"Unknown label type: continuous, such as {classes[classes != np.round(classes)][0]}; expected "
            "classes: text or whole numbers; there is no regression, as no bag would be negative"
        )
    _check_spellings(classes)
    return classes


def task_of(
    classes: Shaped[np.ndarray, " class"],
    *,
    positive: Hashable | None,
    negative: Hashable | None,
    ordinal: bool,
) -> TaskConfig:
    """What a network tells apart for these labels; `positive` and the others as `MILClassifier` takes them.

    Raises:
        BagError: If a label that is named is not there, or is named where it has no meaning.
    """
    if len(classes) == 2:
        if negative is not None:
            raise BagError(f"negative: {negative!r}; it is for more than two labels; of two, set positive")
        return TWO_CLASSES
    if positive is not None:
        raise BagError(f"positive: {positive!r} of {len(classes)} labels; it is for two; leave it out")
    names = tuple(map(str, classes.tolist()))
    try:
        return TaskConfig(
            names=names, negative=None if negative is None else str(negative), ordinal=bool(ordinal)
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BagError(f"labels {', '.join(names)}: {reason}") from error


def _check_spellings(classes: Shaped[np.ndarray, " class"]) -> None:
    first: dict[str, Hashable] = {}
    for label in classes.tolist():
        other = first.setdefault(" ".join(str(label).casefold().split()), label)
        if other != label:
            raise BagError(
                f"the labels {[other, label]} differ in upper and lower case or spaces only; expected "
                "different labels, each in one spelling; correct one of them"
            )


def cases_of(groups: Labels | None, *, n_bags: int) -> list[str]:
    """The case of each bag; its position where there are no groups.

    Raises:
        BagError: If there is not one group for each bag, or one is missing.
    """
    cases = range(n_bags) if groups is None else groups
    if len(cases) != n_bags:
        raise BagError(f"{len(cases)} groups for {n_bags} bags; expected one for each bag")
    for position, case in enumerate(cases):
        if is_missing(case):
            raise BagError(
                f"bag {position}: its group is {case!r}; expected its case; name it, or leave the bag out"
            )
    return [str(case) for case in cases]


def weights_of(given: Weights | None, *, n_bags: int) -> list[float]:
    """The weight of each bag, with a mean of 1; 1 where none are given.

    Raises:
        BagError: If their number is not that of the bags, or they are not numbers of at least 0 with a sum
            above 0.
    """
    if given is None:
        return [1.0] * n_bags
    try:
        weights = np.asarray(given, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise BagError(f"sample_weight: not numbers ({error}); expected one number for each bag") from error
    if weights.shape != (n_bags,):
        raise BagError(f"sample_weight: shape {weights.shape} for {n_bags} bags; expected ({n_bags},)")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise BagError("sample_weight: expected finite numbers of at least 0; correct the weights")
    if weights.sum() == 0:
        raise BagError("sample_weight: all weights are zero; expected some above 0; correct the weights")
    return (weights / weights.mean()).tolist()


def _check_label(label: object, *, position: int) -> None:
    if np.asarray(label).ndim > 0:
        is_one = np.size(np.asarray(label)) == 1
        advice = "labels.ravel()" if is_one else "numpy.argmax(labels, axis=1) if labels are one-hot"
        raise BagError(f"bag {position}: its label is {label!r}; expected one value; give {advice}")
    if is_missing(label):
        raise BagError(
            f"bag {position}: its label is {label!r}; expected a value; leave out bags without a label"
        )


def is_missing(value: object) -> bool:
    """Whether a label or a case is None, NaN or NaT, which differ from themselves, or pandas.NA."""
    return value is None or str(value) == "<NA>" or bool(value != value)


def _type_of(label: object) -> str:
    """Text, or number for numbers and booleans; otherwise the name of the type."""
    if isinstance(label, str):
        return "text"
    return "number" if isinstance(label, bool | np.bool_ | Number) else type(label).__name__
