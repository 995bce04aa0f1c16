"""The weights of a network on disk, as safetensors."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hardmil.config.model import ResolvedModelConfig
from hardmil.errors import BundleError
from hardmil.files.atomic import write_atomically
from hardmil.mil.network import BagClassifier


def save_network(path: Path, network: BagClassifier) -> None:
    """Write weights, their digest, config and instance shape; the file is complete or not there.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    state = _state(network)
    metadata = {
        "digest": _digest(state),
        "config": network.config.model_dump_json(),
        "instance_shape": json.dumps(network.instance_shape),
    }
    with write_atomically(path) as draft:
        try:
            save_file(state, draft, metadata=metadata)
        except SafetensorError as error:
            # Its errors of the disk are not OSErrors; their number is in the text.
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number.group(1)) if number else errno.EIO, str(error)) from error


def load_network(path: Path, *, device: str = "cpu") -> BagClassifier:
    """The network that `save_network` wrote, ready to predict.

    Raises:
        BundleError: If the file is missing, damaged, or not of a hardmil network, or a weight is NaN or
            infinite.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            # Copied: the file may be changed while the network is used. `file` is not a dict (SIM118).
            state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        _check(state, digest=metadata.get("digest"))
        config = ResolvedModelConfig.model_validate_json(metadata["config"])
        shape = tuple(int(n) for n in json.loads(metadata["instance_shape"]))
        # Without memory of its own: a file of a few bytes could name a network of any size.
        with torch.device("meta"):
            network = BagClassifier(config, instance_shape=shape)
        network.load_state_dict(state, assign=True)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BundleError(
            f"{path}: not the weights of a hardmil network ({reason}); train it again"
        ) from error
    return network.to(device).eval()


def weights_digest(network: BagClassifier) -> str:
    """A hash of the weights of a network."""
    return _digest(_state(network))


def _state(network: BagClassifier) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}


def _digest(state: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()


def _check(state: Mapping[str, torch.Tensor], *, digest: str | None) -> None:
    """Raise ValueError where weights are not those that were written, or not numbers."""
    # Files of early versions have no digest.
    if digest is not None and digest != _digest(state):
        raise ValueError("its weights do not match their digest")
    for name, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} has NaN or infinite values")
