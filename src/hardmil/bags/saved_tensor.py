"""Features in a .pt file, read without running code from it."""

import codecs
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hardmil.errors import FeatureFileError

# What torch, its unpickler and zip raise at files that are none of theirs, or were cut or changed.
_DAMAGE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(MemoryError, OverflowError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile),
)

_FEATURE_KEYS = ("features", "feats", "feat", "embeddings")


def read_saved_tensor(path: Path) -> np.ndarray:
    """The features in a tensor, an array, or a dict of either; opened without running code of the file."""
    import torch

    if not path.is_file():
        raise FeatureFileError(f"{path}: no such file; expected one saved tensor; write it")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_globals()):
            # Of pickle protocols; what cannot be read is an error below.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FeatureFileError(
            f"{path}: cannot be read ({reason}); expected one saved tensor; write the file again"
        ) from error
    found = (
        next((content[key] for key in _FEATURE_KEYS if key in content), None)
        if _is_dict(content)
        else content
    )
    if isinstance(found, torch.Tensor):
        wide = found.float() if found.dtype == torch.bfloat16 else found
        return wide.detach().numpy()
    if isinstance(found, np.ndarray):
        return found
    held = f"a dict of {', '.join(map(str, content))}" if _is_dict(content) else type(content).__name__
    raise FeatureFileError(
        f"{path}: holds {held}; expected a tensor, or a dict with one under {', '.join(_FEATURE_KEYS)}"
    )


def _numpy_globals() -> list[Any]:
    """What weights-only loading must know to build an array: TRIDENT saves arrays, not tensors, as .pt."""
    rebuild = np.zeros(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ("float16", "float32", "float64")]
    # The module was numpy.core before numpy 2, and files keep the name of their writer's numpy.
    names = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    return [*names, np.ndarray, np.dtype, *dtypes, codecs.encode]


def _is_dict(content: object) -> bool:
    return isinstance(content, dict)
