"""Labels of bags that may have several: an array [bag, label] of 0 and 1, as in scikit-learn."""

import numpy as np
from jaxtyping import Bool, Shaped
from pydantic import ValidationError

from hardmil.config.task import TaskConfig
from hardmil.errors import BagError
from hardmil.estimator.given_labels import Labels


def indicators_of(labels: object) -> Bool[np.ndarray, "bag label"] | None:
    """Whether each bag has each label, for an array of 0 and 1 with two columns or more; None for others.

    Also None where every bag has exactly one: one-hot labels are exclusive classes, not several labels.
    """
    try:
        given = np.asarray(labels)
    except ValueError:  # rows of different lengths
        return None
    if given.ndim != 2 or given.shape[1] < 2 or given.dtype.kind not in "biuf":
        return None
    is_indicator = np.isin(given, (0, 1)).all() and (given.sum(axis=1) != 1).any()
    return given == 1 if is_indicator else None


def names_of(labels: Labels, *, n_labels: int) -> Shaped[np.ndarray, " label"]:
    """The names of the columns of a table; for an array, their positions."""
    columns = getattr(labels, "columns", None)
    return np.arange(n_labels) if columns is None else np.asarray(columns)


def indicator_task(
    indicators: Bool[np.ndarray, "bag label"], *, names: Shaped[np.ndarray, " label"], n_bags: int
) -> TaskConfig:
    """What a network tells apart for these labels.

    Raises:
        BagError: If there is not one row for each bag, all bags have a label, or none has, or the names are
            not those of classes.
    """
    if len(indicators) != n_bags:
        raise BagError(f"{len(indicators)} rows of labels for {n_bags} bags; expected one for each bag")
    for name, column in zip(names.tolist(), indicators.T, strict=True):
        if column.all() or not column.any():
            which = "all bags have" if column.all() else "no bag has"
            raise BagError(
                f"{which} label {name!r}; expected bags with it and bags without it; add some, or leave the "
                "column out"
            )
    try:
        return TaskConfig(names=tuple(map(str, names.tolist())), multi_label=True)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BagError(f"labels {', '.join(map(str, names.tolist()))}: {reason}") from error
