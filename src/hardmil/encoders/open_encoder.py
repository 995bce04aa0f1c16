"""Opening an encoder by its name."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hardmil.config.known_encoders import KNOWN, is_encoder_file, known_encoder, split_location
from hardmil.config.study import PIXELS, InstanceConfig
from hardmil.encoders import stain_statistics
from hardmil.encoders.encoder import PatchEncoder, Patches
from hardmil.encoders.file_card import find_file
from hardmil.errors import ConfigError
from hardmil.slides.reading import resize_patches

if TYPE_CHECKING:
    from hardmil.encoders.torch_network import Half

OWN_BATCH = 64
"""Patches per batch for a function of the user."""

TIMM_PREFIXES = ("timm:", "hf-hub:", "local-dir:")
PHIKON_V2 = ("phikon-v2", "hf-hub:owkin/phikon-v2")


def open_encoder(
    name: str,
    *,
    device: str = "cpu",
    half: "Half | None" = None,
    input_px: int | None = None,
    folders: tuple[Path, ...] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> PatchEncoder:
    """The encoder with this name; docs/encoders.md lists all.

    Args:
        name: efficientnet-lite0; stain-statistics; a pathology encoder such as uni, or uni@FOLDER;
            timm:NAME[@FILE]; hf-hub:OWNER/NAME; local-dir:FOLDER; a file, .onnx, .pt, .ts or .pt2; or
            "module:callable", a function of your own from uint8 patches (n, h, w, 3) to (n, dim).
        device: Where it runs; a function of your own chooses its device itself.
        half: Precision of autocast for networks that come as code; files run in their own precision.
        input_px: Edge to which patches are resized first; None: the edge it was trained on, if known.
        folders: Where a relative path may start; by default the working folder.
        tell: Called with a message for the user before a download.

    Raises:
        ConfigError: If the name is unknown, or what the encoder needs is not installed or not available.
    """
    plain, location = split_location(name)
    if plain.lower() in PHIKON_V2:
        raise ConfigError(
            f"encode: {name}: is a model of transformers, which timm cannot load; expected a timm model; use "
            'it as "module:callable" with the few lines in docs/encoders.md'
        )
    if name.startswith(TIMM_PREFIXES) or known_encoder(plain) is not None:
        from hardmil.encoders.timm_hub import open_timm

        if name.startswith("local-dir:"):
            location = name.removeprefix("local-dir:")
        weights = find_file(location, folders=folders, what=name) if location else None
        return open_timm(name, weights=weights, device=device, half=half, input_px=input_px, tell=tell)
    match name.partition(":"):
        case ("efficientnet-lite0", "", _):
            from hardmil.encoders.efficientnet import open_efficientnet_lite0

            return open_efficientnet_lite0(device=device, half=half, input_px=input_px)
        case (stain_statistics.NAME, "", _):
            return stain_statistics.StainStatistics(input_px=input_px)
        case _ if is_encoder_file(name):
            return _of_file(find_file(name, folders=folders, what=name), device=device, input_px=input_px)
        case (module, ":", attribute):
            return _CallableEncoder(name, _imported(name, module, attribute), input_px)
        case _:
            raise ConfigError(
                f"encode: {name}: unknown encoder; expected pixels, efficientnet-lite0, stain-statistics, "
                f"{', '.join(KNOWN)}, timm:NAME, hf-hub:OWNER/NAME, a file (.onnx, .pt, .ts, .pt2), or your "
                'own as "module:callable"'
            )


def _of_file(path: Path, *, device: str, input_px: int | None) -> PatchEncoder:
    if path.suffix.lower() == ".onnx":
        from hardmil.encoders.onnx_file import open_onnx

        return open_onnx(path, device=device, input_px=input_px)
    from hardmil.encoders.torch_file import open_torch_file

    return open_torch_file(path, device=device, input_px=input_px)


@dataclass(frozen=True, eq=False)
class _CallableEncoder:
    """A `PatchEncoder` of a function of the user."""

    name: str
    call: Callable[[np.ndarray], object]
    input_px: int | None
    batch_size: int = OWN_BATCH
    trained_px: int | None = None
    um_per_px: float | None = None

    def embed(self, patches: Patches) -> np.ndarray:
        """The output of the function, as float32; its shape is checked by the caller."""
        return np.asarray(self.call(resize_patches(patches, size_px=self.input_px)), dtype=np.float32)


def _imported(name: str, module: str, attribute: str) -> Callable[[np.ndarray], object]:
    try:
        found: object = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"encode: {name}: {error}; expected a module that Python can import, with this function"
        ) from error
    if not callable(found):
        raise ConfigError(f"encode: {name}: {attribute} is a {type(found).__name__}; expected a function")
    return found


def encoder_of(
    config: InstanceConfig, *, device: str, precision: str = "auto", folders: tuple[Path, ...] = ()
) -> PatchEncoder | None:
    """The encoder in the config of a study or a bundle; None for pixels. A download is announced on stderr.

    Args:
        config: The config of the study or bundle.
        device: Where it runs.
        precision: auto (half precision if the device is fast at it), float32 or bfloat16.
        folders: Where a relative path to its file may start.

    Raises:
        ConfigError: If the name is unknown, or what the encoder needs is not installed.
        TrainingError: If the device does not exist on this machine.
    """
    if config.encode == PIXELS:
        return None
    from hardmil.device import find_device

    found = find_device(device, precision=precision)
    half = "bfloat16" if found.bfloat16 else None
    if half is None and precision == "auto" and found.name.startswith("cuda"):
        # A GPU without bfloat16 is still fast at float16.
        half = "float16"
    return open_encoder(
        config.encode,
        device=found.name,
        half=half,
        input_px=config.encode_px,
        folders=folders,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
