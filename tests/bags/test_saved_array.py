from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hardmil.bags.saved_tensor import read_saved_tensor
from hardmil.errors import FeatureFileError

GOOD = np.arange(6, dtype=np.float32).reshape(2, 3)


class _Forged:
    """Is pickled as an array, or as the type of one, with a state of ours."""

    def __init__(self, reduced: tuple[object, ...]) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced


def _array(state: object) -> _Forged:
    function, arguments, _ = GOOD.__reduce__()
    return _Forged((function, arguments, state))


def _dtype(state: object) -> _Forged:
    return _Forged((np.dtype, ("f4", False, True), state))


@pytest.mark.parametrize(
    "array",
    [
        GOOD,
        np.asfortranarray(GOOD),
        GOOD.astype(">f8"),
        GOOD.astype(np.float16),
        GOOD.astype(bool),
        GOOD[:, :1].astype(np.int8),
    ],
)
def test_an_array_is_read_as_numpy_wrote_it(tmp_path: Path, array: np.ndarray):
    path = tmp_path / "a.pt"
    torch.save({"features": array, "slide": "0017", "mpp": np.float64(0.5)}, path)
    found = read_saved_tensor(path)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert found.flags.writeable


@pytest.mark.parametrize(
    "forge",
    [
        lambda: _array((1, (2, 3), np.dtype("f4"), False, b"short")),
        lambda: _array((1, (2**40, 3), np.dtype("f4"), False, bytes(24))),
        lambda: _array((1, (-2, -3), np.dtype("f4"), False, bytes(24))),
        lambda: _array((1, (2, "3"), np.dtype("f4"), False, bytes(24))),
        lambda: _array((1, (1,) * 40, np.dtype("f4"), False, bytes(4))),
        lambda: _array((1, (2, 3), np.dtype("f4"), False, [1.0] * 6)),
        lambda: _array((1, (2, 3), 7, False, bytes(24))),
        lambda: _array(None),
        lambda: _array((1, (2, 3), _dtype((3, "<", None, None)), False, bytes(20))),
        lambda: _array((1, (2, 3), _dtype(("x",)), False, bytes(24))),
        lambda: _array((1, (2, 3), _dtype(5), False, bytes(24))),
        lambda: np.array([{}, {}], dtype=object),
        lambda: np.zeros(3, dtype=[("a", "f4")]),
    ],
)
def test_a_damaged_or_forged_array_is_refused(tmp_path: Path, forge: Callable[[], object]):
    path = tmp_path / "a.pt"
    torch.save(forge(), path)
    with pytest.raises(FeatureFileError, match=r"a\.pt: cannot be read \(.*; write the file again"):
        read_saved_tensor(path)
