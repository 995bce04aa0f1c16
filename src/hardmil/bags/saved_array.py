"""numpy arrays in .pt files, rebuilt from their checked parts.

A pickled array tells numpy its shape, type and bytes, and numpy does not check them: a damaged state can end
the process. So weights-only loading gets the classes below under numpy's names.
"""

import codecs
import math
from typing import Any, final

import numpy as np

KINDS = "biufSU"
"""Types of numbers and text, which hold no references."""
MOST_DIMENSIONS = 32


@final
class SavedType:
    """The type of a saved array, such as `f4`, in the place of `numpy.dtype`."""

    def __init__(self, code: object = None, align: object = False, copy: object = True) -> None:
        if not isinstance(code, str) or code[:1] not in KINDS:
            raise ValueError(f"its array has the type {code!r}; expected numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"its array has bytes in the order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


@final
class SavedArray:
    """A saved array, in the place of `numpy.ndarray`."""

    _array: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        """The array as numpy wrote it.

        Raises:
            ValueError: If the file has no values of it.
        """
        if self._array is None:
            raise ValueError("its array has no values")
        return self._array

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), tuple(shape), SavedType(dtype=dtype), bool(is_fortran), bytes(values)):
                self._array = _rebuilt(shape, dtype=dtype, is_fortran=is_fortran, values=values)
            case _:
                raise ValueError("its array is damaged")


def _rebuilt(shape: tuple[object, ...], *, dtype: np.dtype, is_fortran: bool, values: bytes) -> np.ndarray:
    edges = [edge for edge in shape if type(edge) is int and 0 <= edge < 2**63]
    n_bytes = math.prod(edges) * dtype.itemsize
    if len(edges) != len(shape) or len(shape) > MOST_DIMENSIONS or n_bytes != len(values):
        raise ValueError(f"its array of {shape} has {len(values)} bytes; expected {n_bytes}")
    flat = np.frombuffer(values, dtype=dtype)
    # A copy, because an array over bytes is read-only.
    return flat.reshape(edges, order="F" if is_fortran else "C").copy(order="K")


def _reconstruct(kind: object, shape: object, code: object) -> SavedArray:
    """An array without values, in the place of `numpy._core.multiarray._reconstruct`."""
    return SavedArray()


def _scalar(kind: SavedType, values: bytes) -> object:
    """One number, in the place of `numpy._core.multiarray.scalar`."""
    if not isinstance(kind, SavedType) or not isinstance(values, bytes):
        raise ValueError("its number is damaged")
    return _rebuilt((), dtype=kind.dtype, is_fortran=False, values=values)[()]


def array_globals() -> list[Any]:
    """What weights-only loading must allow for arrays: TRIDENT saves arrays, not tensors, as .pt."""
    # The module was numpy.core before numpy 2, and files have the name from the numpy that wrote them.
    functions = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for function, name in ((_reconstruct, "_reconstruct"), (_scalar, "scalar"))
    ]
    return [*functions, (SavedArray, "numpy.ndarray"), (SavedType, "numpy.dtype"), codecs.encode]
