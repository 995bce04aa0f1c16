"""An encoder in an ONNX file, run by onnxruntime without torch."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import UInt8

from hardmil.encoders.encoder import padded
from hardmil.encoders.file_card import FileCard, file_name, read_card
from hardmil.errors import BagError, ConfigError
from hardmil.slides.reading import resize_patches

BATCH = 32
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


@dataclass(frozen=True, eq=False)
class OnnxEncoder:
    """A `PatchEncoder` of an ONNX network from (patch, 3, h, w) to its first output, (patch, dim)."""

    name: str
    run: Callable[[np.ndarray], np.ndarray]
    card: FileCard
    dtype: type[np.floating]
    input_px: int | None
    batch_size: int
    fixed_batch: bool
    trained_px: int | None
    um_per_px: float | None

    def embed(self, patches: UInt8[np.ndarray, "patch size size 3"]) -> np.ndarray:
        """The output of the network for the patches, as float32; its shape is checked by the caller."""
        parts = [
            self._batch(patches[i : i + self.batch_size]) for i in range(0, len(patches), self.batch_size)
        ]
        return np.concatenate(parts)

    def _batch(self, patches: UInt8[np.ndarray, "patch size size 3"]) -> np.ndarray:
        shown = resize_patches(patches, size_px=self.input_px)
        if self.fixed_batch:
            shown = padded(shown, size=self.batch_size)
        mean, std = (np.asarray(one, np.float32) * 255 for one in (self.card.mean, self.card.std))
        x = np.ascontiguousarray(((shown - mean) / std).transpose(0, 3, 1, 2).astype(self.dtype))
        return self.run(x)[: len(patches)].astype(np.float32)


def open_onnx(path: Path, *, device: str, input_px: int | None) -> OnnxEncoder:
    """The encoder in an ONNX file; on a GPU if `device` is one and onnxruntime supports it.

    Raises:
        ConfigError: If onnxruntime is not installed, or the file is not a network for patches.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"encode: {path} needs onnxruntime, which is not installed; run: pip install 'hardmil[onnx]'"
        ) from error
    card = read_card(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
    preferred = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    providers = [one for one in preferred if one in onnxruntime.get_available_providers()]
    errors = _onnxruntime_errors()
    try:
        session = onnxruntime.InferenceSession(path, options, [*providers, "CPUExecutionProvider"])
    except errors as error:
        raise ConfigError(
            f"encode: {path}: cannot be opened ({str(error).splitlines()[0]}); expected an ONNX network; "
            "export it again"
        ) from error
    accepted = session.get_inputs()[0]
    shape = list(accepted.shape or [])
    if len(session.get_inputs()) != 1 or len(shape) != 4 or shape[1] != 3 or accepted.type not in _DTYPES:
        raise ConfigError(
            f"encode: {path}: its network takes {accepted.type} {shape}; expected one float input (patch, 3, "
            "height, width); export it again"
        )

    def run(x: np.ndarray) -> np.ndarray:
        try:
            return cast(np.ndarray, session.run(None, {accepted.name: x})[0])
        except errors as error:
            raise BagError(
                f"encoder {path.name}: onnxruntime failed on {x.shape} ({str(error).splitlines()[0]}); "
                "expected patches of the size it was exported for; set encode_px"
            ) from error

    fixed, edge = (size if isinstance(size, int) and size > 0 else None for size in (shape[0], shape[3]))
    return OnnxEncoder(
        file_name(path),
        run,
        card,
        _DTYPES[accepted.type],
        input_px=input_px or card.input_px or edge,
        batch_size=fixed or BATCH,
        fixed_batch=fixed is not None,
        trained_px=card.input_px or edge,
        um_per_px=card.um_per_px,
    )


def _onnxruntime_errors() -> tuple[type[Exception], ...]:
    """The exceptions of onnxruntime, which have no common base class but Exception."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")

    return tuple(one for one in vars(state).values() if isinstance(one, type) and issubclass(one, Exception))
