"""Encoders in torch files: TorchScript (.pt, .ts) and torch.export (.pt2)."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import cast
from zipfile import BadZipFile, is_zipfile

import torch
from torch import Tensor

from hardmil.encoders.file_card import FileCard, file_name, read_card
from hardmil.encoders.torch_network import TorchEncoder, batch_size_for
from hardmil.errors import ConfigError

_DAMAGE = (RuntimeError, OSError, ValueError, LookupError, TypeError, AttributeError, BadZipFile)


def open_torch_file(path: Path, *, device: str, input_px: int | None) -> TorchEncoder:
    """The encoder in a file, a network from (patch, 3, h, w) to (patch, dim), run in its own precision.

    Raises:
        ConfigError: If the file is not a network for patches, or the card next to it is invalid.
    """
    card = read_card(path)
    if path.suffix.lower() == ".pt2":
        return _open_exported(path, card, device=device, input_px=input_px)
    try:
        with warnings.catch_warnings():
            # torch 2.9 and later warn that TorchScript is deprecated, but its files are still in use.
            warnings.simplefilter("ignore", DeprecationWarning)
            network = torch.jit.load(path, map_location=device).eval()
    except (RuntimeError, OSError, ValueError) as error:
        raise _not_a_network(
            path, error, "TorchScript (torch.jit.trace(network, x).save(FILE)); weights alone are not enough"
        ) from error
    dtype = next((value.dtype for value in network.parameters()), torch.float32)
    return _encoder(path, network, card, device=device, input_px=input_px, dtype=dtype)


def _open_exported(path: Path, card: FileCard, *, device: str, input_px: int | None) -> TorchEncoder:
    try:
        if not is_zipfile(path):
            raise BadZipFile("not an archive")
        program = torch.export.load(path)
        name = next(iter(program.graph_signature.user_inputs))
        found = next(node.meta["val"] for node in program.graph.nodes if node.name == name)
        if torch.device(device).type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        network = cast(Callable[[Tensor], Tensor], program.module())
    except _DAMAGE as error:
        raise _not_a_network(
            path, error, "torch.export.save(torch.export.export(network, (x,)), FILE)"
        ) from error
    shape = [size if isinstance(size, int) else None for size in found.shape]
    if len(shape) != 4 or shape[1] != 3:
        raise ConfigError(
            f"encode: {path}: its network takes {tuple(found.shape)}; expected (patch, 3, height, width); "
            "export it again"
        )
    card = card.model_copy(update={"input_px": card.input_px or shape[3]})
    return _encoder(
        path, network, card, device=device, input_px=input_px, dtype=found.dtype, batch_size=shape[0]
    )


def _encoder(
    path: Path,
    network: Callable[[Tensor], Tensor],
    card: FileCard,
    *,
    device: str,
    input_px: int | None,
    dtype: torch.dtype,
    batch_size: int | None = None,
) -> TorchEncoder:
    return TorchEncoder(
        file_name(path),
        network,
        device=device,
        input_px=input_px or card.input_px,
        mean=card.mean,
        std=card.std,
        dtype=dtype,
        batch_size=batch_size or batch_size_for(device),
        fixed_batch=batch_size is not None,
        trained_px=card.input_px,
        um_per_px=card.um_per_px,
    )


def _not_a_network(path: Path, error: Exception, expected: str) -> ConfigError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ConfigError(f"encode: {path}: cannot be opened ({reason}); expected {expected}")
