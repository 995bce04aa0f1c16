"""Bags as users have them in memory: arrays, tables, tensors, or one array and the bag of each row."""

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Shaped

from hardmil.bags.bag import Bag
from hardmil.errors import BagError, EmptyBagError


@runtime_checkable
class Listing(Protocol):
    """Lists, tuples, arrays, tensors and awkward arrays of bags."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


# What a bag may be is checked in `as_instances`, for better words than those of an annotation.
BagList = Listing | Shaped[np.ndarray, "bag ..."]
Bags = BagList | tuple[Any, Any]
_EXPECTED = (
    "real numbers (n, dim), or pixels, uint8 (n, height, width, 3); convert it: toarray() of a sparse "
    "matrix, detach().float().numpy() of a tensor"
)


def as_bags(given: Bags) -> BagList:
    """The bags one by one; those of one array and the bag of each row in the order of their first row.

    Raises:
        BagError: If the array and the bags of its rows differ in length.
    """
    if not isinstance(given, tuple) or len(given) != 2 or not _is_flat(given[1]):
        return given if isinstance(given, Listing) else np.asarray(given)
    rows: Any = given[0]
    bag_of_row, n_rows = np.asarray(given[1]), len(rows)
    if n_rows != len(bag_of_row):
        raise BagError(f"{n_rows} rows, but the bag of {len(bag_of_row)}; expected one bag for each row")
    _, first, number = np.unique(bag_of_row, return_index=True, return_inverse=True)
    members = [np.flatnonzero(number == one) for one in np.argsort(first)]
    table = getattr(rows, "iloc", None)
    array = np.asarray(rows) if table is None else table
    return [array[index] for index in members]


def _is_flat(values: object) -> bool:
    """Whether these are the bags of rows, and not a bag."""
    try:
        return np.ndim(values) == 1  # type: ignore[arg-type]
    except ValueError:
        return False


def as_instances(given: object, *, position: int) -> Shaped[np.ndarray, "instance ..."]:
    """The instances of a bag as an array: pixels as they are, numbers as float32.

    Raises:
        BagError: If they cannot be an array, or are masked, complex, or not to be told apart in float32.
        EmptyBagError: If there are none.
    """
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise BagError(f"bag {position}: is not an array ({error}); expected {_EXPECTED}") from error
    array = _numbers_of(array)
    if array.ndim < 2 or array.dtype.kind not in "biuf" or isinstance(given, np.ma.MaskedArray):
        found = f"{type(given).__name__}, {array.dtype} {array.shape}"
        raise BagError(f"bag {position}: its instances are {found}; expected {_EXPECTED}")
    if len(array) == 0:
        raise EmptyBagError(f"bag {position}: no instances; expected at least one; leave the bag out")
    if array.ndim == 4 and array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):
        # A value too large for float32 becomes infinite, which `Bag` refuses.
        single = array.astype(np.float32, copy=False)
    if array.dtype.itemsize > single.dtype.itemsize:
        _check_kept(array, single, position=position)
    return single


def _numbers_of(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """An array of number objects, as tables of mixed types give, as float64; other arrays as they are."""
    is_numbers = array.dtype.kind == "O" and all(isinstance(one, Real) for one in array.flat)
    return array.astype(np.float64) if is_numbers else array


def _check_kept(
    array: Shaped[np.ndarray, "instance ..."], single: Float32[np.ndarray, "instance ..."], *, position: int
) -> None:
    """Check that a feature that differs between instances does so in float32 too."""
    varies = array.min(axis=0) < array.max(axis=0)
    lost = np.flatnonzero((varies & (single.min(axis=0) == single.max(axis=0))).ravel())
    if len(lost):
        raise BagError(
            f"bag {position}: feature {lost[0]} differs between instances by less than float32 can hold; "
            "expected features near 0; subtract the mean of the training bags from all bags"
        )


def columns_of(given: object) -> list[object] | None:
    """The names of the columns of a table such as a DataFrame; None for an array."""
    columns = getattr(given, "columns", None)
    return None if columns is None else list(columns)


def check_not_padded(bags: BagList, made: Sequence[Bag]) -> None:
    """Check that bags in one array, of one size, are not padded with zeros to this size."""
    for bag in made if getattr(bags, "ndim", 1) > 2 else ():
        is_zero = (bag.instances.reshape(len(bag), -1) == 0).all(axis=1)
        if is_zero[-1]:
            n = len(bag) if is_zero.all() else int(np.argmin(is_zero[::-1]))
            raise BagError(
                f"bag {bag.slide_id}: the last {n} of its {len(bag)} instances are all 0, as in padded bags; "
                "expected its own instances alone; give a list of arrays of different lengths"
            )


def check_shape(bag: Bag, *, expected: tuple[int, ...]) -> None:
    """Check that the instances of a bag have the shape of those of training.

    Raises:
        BagError: If not.
    """
    if bag.instances.shape[1:] != expected:
        raise BagError(
            f"bag {bag.slide_id}: instances of shape {bag.instances.shape[1:]}; expected {expected}, as in "
            "training; make it in the same way"
        )
