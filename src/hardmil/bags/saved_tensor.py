"""Features in a .pt file, read without running code from the file."""

import codecs
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hardmil.errors import FeatureFileError

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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FeatureFileError(
            f"{path}: cannot be read ({reason}); expected a saved tensor; write the file again"
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
        f"{path}: holds {held}; expected a tensor, or a dict with one under {', '.join(_FEATURE_KEYS)}; "
        "save it again in this form"
    )


def _numpy_globals() -> list[Any]:
    """Globals that weights-only loading must allow for arrays: TRIDENT saves arrays, not tensors, as .pt."""
    rebuild = np.zeros(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ("float16", "float32", "float64")]
    # The module was numpy.core before numpy 2, and files have the name from the numpy that wrote them.
    names = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    return [*names, np.ndarray, np.dtype, *dtypes, codecs.encode]


def _is_dict(content: object) -> bool:
    return isinstance(content, dict)
