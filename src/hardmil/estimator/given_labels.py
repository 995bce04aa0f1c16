"""Labels as users have them: two values of one type."""

from collections.abc import Hashable, Sequence
from numbers import Number

import numpy as np
from jaxtyping import Shaped

from hardmil.bags.slide_table import the_negative
from hardmil.errors import BagError

Labels = Sequence[Hashable] | Shaped[np.ndarray, " bag"]
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


def two_classes(labels: Labels, *, n_bags: int) -> Shaped[np.ndarray, "2"]:
    """The two labels, sorted.

    Raises:
        BagError: If there is not one label for each bag, one is missing, or they are not of two values of one
            type.
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
    if len(classes) != 2:
        raise BagError(f"labels of {len(classes)} values ({classes[:5].tolist()}); expected two")
    one, other = (" ".join(str(label).casefold().split()) for label in classes)
    if one == other:
        raise BagError(
            f"the labels {classes.tolist()} differ in upper and lower case or spaces only; expected two "
            "labels, each in one spelling; correct one of them"
        )
    return classes


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
