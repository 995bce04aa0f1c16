"""The weights of a network on disk, as safetensors."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hardmil.config.model import ResolvedModelConfig
from hardmil.errors import BundleError
from hardmil.files.atomic import write_atomically
from hardmil.mil.network import BagClassifier


def save_network(path: Path, network: BagClassifier) -> None:
    """Write weights, config and instance shape; the file is complete or not there.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    metadata = {
        "config": network.config.model_dump_json(),
        "instance_shape": json.dumps(network.instance_shape),
    }
    with write_atomically(path) as draft:
        save_file(state, draft, metadata=metadata)


def load_network(path: Path, *, device: str = "cpu") -> BagClassifier:
    """The network that `save_network` wrote, ready to predict.

    Raises:
        BundleError: If the file is missing, damaged, or not of a hardmil network.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
        config = ResolvedModelConfig.model_validate_json(metadata["config"])
        shape = tuple(int(n) for n in json.loads(metadata["instance_shape"]))
        network = BagClassifier(config, instance_shape=shape)
        network.load_state_dict(state)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BundleError(
            f"{path}: not the weights of a hardmil network ({reason}); train it again"
        ) from error
    return network.to(device).eval()
