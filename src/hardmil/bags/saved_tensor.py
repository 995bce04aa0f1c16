"""Features in a .pt file, read without running code from the file."""

import codecs
import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hardmil.errors import FeatureFileError

if TYPE_CHECKING:
    import torch

# What torch, its unpickler and zip raise for files of another kind, or truncated or changed ones.
_DAMAGE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(MemoryError, OverflowError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile),
)

_FEATURE_KEYS = ("features", "feats", "feat", "embeddings")


def read_saved_tensor(path: Path) -> np.ndarray:
    """The features in a file with a tensor, an array, or a dict of either.

    Raises:
        FeatureFileError: If the file is missing, damaged, or has no features.
    """
    import torch

    if not path.is_file():
        raise FeatureFileError(
            f"{path}: no such file; expected a saved tensor; write it, or correct the path"
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_globals()):
            # Warnings about pickle protocols; a file that cannot be read is an error below.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        raise FeatureFileError(
            f"{path}: cannot be read ({_reason(error)}); expected a saved tensor; write the file again, with "
            "tensors, arrays, numbers and text only"
        ) from error
    found = (
        next((content[key] for key in _FEATURE_KEYS if key in content), None)
        if _is_dict(content)
        else content
    )
    if isinstance(found, torch.Tensor):
        return _as_array(found, path=path)
    if isinstance(found, np.ndarray):
        return found
    held = f"a dict of {', '.join(map(str, content))}" if _is_dict(content) else type(content).__name__
    raise FeatureFileError(
        f"{path}: holds {held}; expected a tensor, or a dict with one under {', '.join(_FEATURE_KEYS)}; "
        "save it again in this form"
    )


def _as_array(tensor: "torch.Tensor", *, path: Path) -> np.ndarray:
    """The values of a tensor, which may be sparse, quantised or in bfloat16."""
    import torch

    if tensor.is_meta:
        raise FeatureFileError(f"{path}: its tensor has no values (device meta); write the file again")
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    dense = dense.dequantize() if dense.is_quantized else dense
    wide = dense.float() if dense.dtype == torch.bfloat16 else dense
    return wide.resolve_conj().resolve_neg().numpy()


def _reason(error: BaseException) -> str:
    """Why a file cannot be loaded, without the advice of torch to load it with code."""
    text = str(error)
    refused = re.search(r"GLOBAL (\S+)", text)
    if refused is not None:
        return f"it holds {refused.group(1)}, which is not loaded because it could run code"
    if text.startswith("Weights only load failed"):
        return "it is not a file of torch.save, or holds objects that could run code"
    return text.splitlines()[0] if text else type(error).__name__


def _numpy_globals() -> list[Any]:
    """Globals that weights-only loading must allow for arrays: TRIDENT saves arrays, not tensors, as .pt."""
    rebuild, scalar = np.zeros(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(code)) for code in (*np.typecodes["AllInteger"], *"efd?US")]
    # The module was numpy.core before numpy 2, and files have the name from the numpy that wrote them.
    names = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for function, name in ((rebuild, "_reconstruct"), (scalar, "scalar"))
    ]
    return [*names, np.ndarray, np.dtype, *dict.fromkeys(dtypes), codecs.encode]


def _is_dict(content: object) -> bool:
    return isinstance(content, dict)
