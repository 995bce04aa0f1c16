"""The encoder of a torch network: batches, normalisation, half precision, and a hash of its weights."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from hardmil.config.known_encoders import IMAGENET_MEAN, IMAGENET_STD, Channels
from hardmil.encoders.encoder import padded
from hardmil.slides.reading import resize_patches

Half = Literal["bfloat16", "float16"]
CPU_BATCH, DEVICE_BATCH = 32, 256
"""Patches per batch: on a CPU more only needs memory, other devices are faster with large batches."""


@dataclass(frozen=True, eq=False)
class TorchEncoder:
    """A `PatchEncoder` of a frozen torch network from (patch, 3, h, w) to (patch, dim).

    `input_px` is the edge to which patches are resized, None to keep their size. `mean` and `std` are for RGB
    from 0 to 1. `half` is the precision of autocast. `fixed_batch` is for a network that was exported for one
    batch size: a smaller batch is padded. `trained_px` and `um_per_px` are those of the training patches, if
    known.
    """

    name: str
    network: Callable[[Tensor], Tensor]
    device: str = "cpu"
    input_px: int | None = None
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    half: Half | None = None
    dtype: torch.dtype = torch.float32
    batch_size: int = CPU_BATCH
    fixed_batch: bool = False
    trained_px: int | None = None
    um_per_px: float | None = None

    @torch.inference_mode()
    def embed(self, patches: UInt8[np.ndarray, "patch size size 3"]) -> np.ndarray:
        """The output of the network for the patches, as float32; its shape is checked by the caller."""
        parts = [
            self._batch(patches[i : i + self.batch_size]) for i in range(0, len(patches), self.batch_size)
        ]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _batch(self, patches: UInt8[np.ndarray, "patch size size 3"]) -> np.ndarray:
        resized = resize_patches(patches, size_px=self.input_px)
        if self.fixed_batch:
            resized = padded(resized, size=self.batch_size)
        with self._autocast():
            found = self.network(self.normalised(resized))
        return found.float().cpu().numpy()[: len(patches)]

    def normalised(
        self, patches: UInt8[np.ndarray, "patch size size 3"]
    ) -> Float[Tensor, "patch 3 size size"]:
        """The normalised input of the network, on its device."""
        # A read-only array is copied, as torch would warn.
        ready = np.ascontiguousarray(patches) if patches.flags.writeable else patches.copy()
        pixels = torch.from_numpy(ready).to(self.device)
        # Stays channels last in memory, which is twice as fast on a CPU.
        x = pixels.permute(0, 3, 1, 2).float()
        shape = (1, 3, 1, 1)
        mean = torch.tensor(self.mean, device=self.device).mul_(255).view(shape)
        std = torch.tensor(self.std, device=self.device).mul_(255).view(shape)
        return x.sub_(mean).div_(std).to(self.dtype)

    def _autocast(self) -> AbstractContextManager[object]:
        kind = torch.device(self.device).type
        dtype = torch.bfloat16 if self.half != "float16" else torch.float16
        return torch.autocast(kind, dtype=dtype, enabled=self.half is not None)


def frozen(network: nn.Module, *, device: str) -> nn.Module:
    """The network in evaluation mode, without gradients, on its device, channels last."""
    ready = network.eval().requires_grad_(False).to(device)
    return ready.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def batch_size_for(device: str) -> int:
    """Patches per batch on this device."""
    return CPU_BATCH if torch.device(device).type == "cpu" else DEVICE_BATCH


def state_digest(network: nn.Module) -> str:
    """Hash (8 hex digits) of the names and values of all weights, independent of the file format."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:8]
