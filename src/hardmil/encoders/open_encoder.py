"""From the name of an encoder to the encoder."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hardmil.config.known_encoders import KNOWN, is_encoder_file, known_encoder, split_location
from hardmil.config.study import PIXELS, InstanceConfig
from hardmil.encoders.encoder import PatchEncoder, Patches
from hardmil.encoders.file_card import find_file
from hardmil.errors import ConfigError
from hardmil.slides.reading import resize_patches

if TYPE_CHECKING:
    from hardmil.encoders.torch_network import Half

OWN_BATCH = 64

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
    """The encoder of this name; docs/encoders.md lists what there is.

    Args:
        name: efficientnet-lite0; a pathology encoder such as uni, or uni@FOLDER; timm:NAME[@FILE];
            hf-hub:OWNER/NAME; local-dir:FOLDER; a file, .onnx, .pt, .ts or .pt2; or "module:callable": your
            own, from uint8 patches (n, h, w, 3) to (n, dim).
        device: Where it runs; your own runs where it likes.
        half: Arithmetic of autocast for networks that come as code; files run in their own.
        input_px: Edge that patches are resized to first; None: what it was trained on, or as they are.
        folders: Where a relative path may start; the working folder by default.
        tell: Takes what the user should read before a download.

    Raises:
        ConfigError: If there is no such encoder, or what it needs is not installed or not to be had.
    """
    plain, place = split_location(name)
    if plain.lower() in PHIKON_V2:
        raise ConfigError(
            f"encode: {name}: a model of transformers, which timm cannot load; docs/encoders.md has the few "
            'lines that make it an encoder of your own, "module:callable"'
        )
    match name.partition(":"):
        case ("efficientnet-lite0", "", _):
            from hardmil.encoders.efficientnet import open_efficientnet_lite0

            return open_efficientnet_lite0(device=device, half=half, input_px=input_px)
        case ("timm" | "hf-hub" | "local-dir", ":", _):
            return _through_timm(name, place, device, half, input_px, folders, tell)
        case _ if known_encoder(plain) is not None:
            return _through_timm(name, place, device, half, input_px, folders, tell)
        case _ if is_encoder_file(name):
            return _of_file(find_file(name, folders=folders, what=name), device=device, input_px=input_px)
        case (module, ":", attribute):
            return _OwnEncoder(name, _imported(name, module, attribute), input_px)
        case _:
            raise ConfigError(
                f"encode: {name}: no such encoder; expected pixels, efficientnet-lite0, {', '.join(KNOWN)}, "
                "timm:NAME, hf-hub:OWNER/NAME, a file (.onnx, .pt, .ts, .pt2), or your own as "
                '"module:callable"'
            )


def _through_timm(
    name: str,
    place: str | None,
    device: str,
    half: "Half | None",
    input_px: int | None,
    folders: tuple[Path, ...],
    tell: Callable[[str], None],
) -> PatchEncoder:
    from hardmil.encoders.timm_hub import open_timm

    if name.startswith("local-dir:"):
        place = name.removeprefix("local-dir:")
    found = find_file(place, folders=folders, what=name) if place else None
    return open_timm(name, place=found, device=device, half=half, input_px=input_px, tell=tell)


def _of_file(path: Path, *, device: str, input_px: int | None) -> PatchEncoder:
    if path.suffix.lower() == ".onnx":
        from hardmil.encoders.onnx_file import open_onnx

        return open_onnx(path, device=device, input_px=input_px)
    from hardmil.encoders.torch_file import open_torch_file

    return open_torch_file(path, device=device, input_px=input_px)


@dataclass(frozen=True, eq=False)
class _OwnEncoder:
    """A user's own callable."""

    name: str
    call: Callable[[np.ndarray], object]
    input_px: int | None
    batch_size: int = OWN_BATCH
    trained_px: int | None = None
    um_per_px: float | None = None

    def embed(self, patches: Patches) -> np.ndarray:
        """What the callable gives, as float32; `as_stored` checks its shape."""
        return np.asarray(self.call(resize_patches(patches, size_px=self.input_px)), dtype=np.float32)


def _imported(name: str, module: str, attribute: str) -> Callable[[np.ndarray], object]:
    try:
        found: object = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"encode: {name}: {error}; expected a module that Python can import and a callable in it"
        ) from error
    if not callable(found):
        raise ConfigError(f"encode: {name}: {attribute} is a {type(found).__name__}, expected a callable")
    return found


def encoder_of(
    config: InstanceConfig, *, device: str, precision: str = "auto", folders: tuple[Path, ...] = ()
) -> PatchEncoder | None:
    """The encoder that a study or a bundle names; None for pixels. A download is told of on stderr.

    Args:
        config: Of the study or bundle.
        device: Where it runs.
        precision: auto: half where the device is fast at it; float32; bfloat16.
        folders: Where a relative path to its file may start.

    Raises:
        ConfigError: If there is no such encoder, or what it needs is not installed.
        TrainingError: If there is no such device here.
    """
    if config.encode == PIXELS:
        return None
    from hardmil.device import find_device

    where = find_device(device, precision=precision)
    half = "bfloat16" if where.bfloat16 else None
    if half is None and precision == "auto" and where.name.startswith("cuda"):
        # A GPU without bfloat16 is fast at float16 all the same.
        half = "float16"
    return open_encoder(
        config.encode,
        device=where.name,
        half=half,
        input_px=config.encode_px,
        folders=folders,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
