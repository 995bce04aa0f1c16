"""Features in a .pt file, read without running code from the file."""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hardmil.bags.saved_array import SavedArray, array_globals
from hardmil.budget import check_file, too_large
from hardmil.errors import FeatureFileError, HardmilError
from hardmil.words import some_of

if TYPE_CHECKING:
    import torch

# What torch, its unpickler and zip raise for files of another kind, or truncated or changed ones.
_DAMAGE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(MemoryError, OverflowError, RecursionError, NotImplementedError),
    *(struct.error, pickle.UnpicklingError, zipfile.BadZipFile),
)

_OF_NUMPY = frozenset(("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"))
"""Types of tensors that numpy has too."""
_FEATURE_KEYS = ("features", "feats", "feat", "embeddings")


def read_saved_tensor(path: Path) -> np.ndarray:
    """The features in a file with a tensor, an array, or a dict of either.

    Raises:
        FeatureFileError: If the file is missing, damaged, or has no features.
    """
    import torch

    if not path.exists():
        raise FeatureFileError(
            f"{path}: no such file; expected a saved tensor; write it, or correct the path"
        )
    try:
        check_file(path)
        _check_unpacked(path)
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(array_globals()),
            # Without it, indices of a sparse tensor that are out of bounds are written to any memory.
            torch.sparse.check_sparse_tensor_invariants(),
        ):
            # Warnings about pickle protocols; a file that cannot be read is an error below.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
        found = _features_in(content)
    except HardmilError:
        raise
    except _DAMAGE as error:
        raise FeatureFileError(
            f"{path}: cannot be read ({_reason(error)}); expected a saved tensor; write the file again, with "
            "tensors, arrays, numbers and text only"
        ) from error
    if isinstance(found, torch.Tensor):
        return _as_array(found, path=path)
    if isinstance(found, np.ndarray):
        _check_size(found.nbytes, shape=found.shape, path=path)
        return found
    held = _keys_of(content) if isinstance(content, dict) else type(content).__name__
    raise FeatureFileError(
        f"{path}: holds {held}; expected a tensor, or a dict with one under {', '.join(_FEATURE_KEYS)}; "
        "save it again in this form"
    )


def _features_in(content: object) -> object:
    """The features of a dict, or the content itself; a saved array as an array."""
    found = content
    if isinstance(content, dict):
        found = next((content[key] for key in _FEATURE_KEYS if key in content), None)
    return found.array if isinstance(found, SavedArray) else found


def _as_array(tensor: "torch.Tensor", *, path: Path) -> np.ndarray:
    """The values of a tensor, which may be sparse, quantised or in bfloat16."""
    import torch

    if tensor.is_meta:
        raise FeatureFileError(f"{path}: its tensor has no values (device meta); write the file again")
    _check_size(tensor.numel() * tensor.element_size(), shape=tensor.shape, path=path)
    try:
        dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
        dense = dense.dequantize() if dense.is_quantized else dense
        # numpy has neither bfloat16 nor the types of 8 bits.
        wide = (
            dense
            if str(dense.dtype).removeprefix("torch.") in _OF_NUMPY or dense.is_complex()
            else dense.float()
        )
        return wide.resolve_conj().resolve_neg().numpy()
    except _DAMAGE as error:
        raise FeatureFileError(
            f"{path}: holds a tensor of {str(tensor.dtype).removeprefix('torch.')} that has no values as "
            f"numbers ({_reason(error)}); expected float32 or float16; save it again with .float()"
        ) from error


def _check_unpacked(path: Path) -> None:
    """Check the size of a file's parts before they are unpacked; torch.save does not compress them.

    Raises:
        FeatureFileError: If they would take too much memory.
        BadZipFile: If the list of parts is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as file:
        n_bytes = sum(part.file_size for part in file.infolist())
    reason = too_large(n_bytes, path=path)
    if reason is not None:
        raise FeatureFileError(f"{path}: unpacks to {reason}; save it again with torch.save")


def _check_size(n_bytes: int, *, shape: Sequence[int], path: Path) -> None:
    reason = too_large(n_bytes, path=path)
    if reason is not None:
        raise FeatureFileError(f"{path}: its tensor of {tuple(shape)} takes {reason}; save it again")


def _keys_of(content: Mapping[object, object]) -> str:
    """The first keys of a dict that are text, for a message."""
    return f"a dict of {some_of([key for key in content if isinstance(key, str)], most=9)}"


def _reason(error: BaseException) -> str:
    """Why a file cannot be loaded, without the advice of torch to load it with code."""
    text = str(error)
    refused = re.search(r"GLOBAL (\S+)", text)
    if refused is not None:
        return f"it holds {refused.group(1)}, which is not loaded because it could run code"
    if text.startswith("Weights only load failed"):
        return "it is not a file of torch.save, or holds objects that could run code"
    return text.splitlines()[0] if text else type(error).__name__
