"""Encoders loaded by timm: its own models, models of the Hugging Face hub, and models in a folder."""

import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from hardmil.config.known_encoders import KnownEncoder, known_encoder, short_name, split_location
from hardmil.encoders.torch_network import Half, TorchEncoder, batch_size_for, frozen, state_digest
from hardmil.errors import ConfigError

INSTALL = "pip install 'hardmil[timm]'"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
# By class name, as the library of the hub may not be installed.
_NO_ACCESS = {"GatedRepoError", "RepositoryNotFoundError"}
_NO_NETWORK = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError"}


def open_timm(
    encode: str,
    *,
    weights: Path | None,
    device: str,
    half: Half | None,
    input_px: int | None,
    tell: Callable[[str], None],
) -> TorchEncoder:
    """The encoder that timm loads by this name, without its last layer.

    Args:
        encode: timm:NAME, hf-hub:OWNER/NAME, local-dir:FOLDER, or a name in `known_encoders.KNOWN`.
        weights: Folder or file of its weights; None: the cache of timm, or a download, which is announced.
        device: Where it runs.
        half: Precision of autocast; None: float32.
        input_px: Edge to which patches are resized; None: the edge it was trained on.
        tell: Called with a message for the user before a download.

    Raises:
        ConfigError: If timm cannot be used, does not know the model, or the weights are not available.
    """
    timm = load_timm()
    known = known_encoder(encode)
    repository = _repository(timm, encode, known)
    if weights is None:
        _announce_download(encode, known, repository, tell=tell)
    network = _created(timm, encode, known, weights=weights, repository=repository)
    config = timm.data.resolve_data_config({}, model=network)
    trained_px = known.input_px if known else int(config["input_size"][-1])
    encoder = TorchEncoder(
        f"{_label(encode, known)}-{state_digest(network)}",
        frozen(_ClassAndMean(network, known) if known and known.class_and_mean else network, device=device),
        device=device,
        input_px=input_px or trained_px,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        half=half,
        batch_size=batch_size_for(device),
        trained_px=trained_px,
    )
    if known is None:
        return encoder
    return replace(encoder, mean=known.mean, std=known.std, um_per_px=known.um_per_px)


class _ClassAndMean(nn.Module):
    """The class token of a vision transformer, concatenated with the mean of its patch tokens.

    Source: the model card of Virchow2, which leaves out the register tokens between them.
    """

    def __init__(self, network: nn.Module, known: KnownEncoder) -> None:
        super().__init__()
        self.network = network
        self.first_patch = 1 + known.n_registers

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings: (patch, 3, h, w) -> (patch, 2 * dim)."""
        tokens = self.network(x)
        return torch.cat([tokens[:, 0], tokens[:, self.first_patch :].mean(dim=1)], dim=1)


def load_timm() -> ModuleType:
    """Import timm.

    Raises:
        ConfigError: If it cannot be imported.
    """
    try:
        timm = import_module("timm")
        import_module("timm.data")
    except (ImportError, RuntimeError) as error:
        # A torchvision that was built for another version of torch raises RuntimeError.
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"encode: timm cannot be imported ({reason}); run: {INSTALL}, with a torchvision that matches "
            "the installed torch"
        ) from error
    return timm


def _created(
    timm: ModuleType, encode: str, known: KnownEncoder | None, *, weights: Path | None, repository: str
) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 0} | (dict(known.options) if known else {})
    if known and known.swiglu:
        options |= {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU}
    name, _ = split_location(encode)
    if name.startswith("timm:"):
        name = name.removeprefix("timm:")
        options |= {"pretrained_cfg_overlay": {"file": str(weights)}} if weights else {}
    elif weights is not None:
        name = f"local-dir:{weights}"
    elif known and not encode.startswith("hf-hub:"):
        name = f"hf-hub:{known.repository}"
    try:
        return timm.create_model(name, pretrained=True, **options)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise _load_error(error, encode, known, weights=weights, repository=repository) from error


def _load_error(
    error: Exception, encode: str, known: KnownEncoder | None, *, weights: Path | None, repository: str
) -> ConfigError:
    """The error for a model that cannot be loaded, with a remedy for its kind."""
    kinds = {one.__name__ for one in type(error).__mro__}
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    page = known.page if known else f"https://huggingface.co/{repository}"
    local_name = f"{known.name}@DIR" if known else "local-dir:DIR"
    if encode.startswith("timm:"):
        local_name = f"{split_location(encode)[0]}@DIR/model.safetensors"
    by_hand = f'or download it elsewhere (hf download {repository} --local-dir DIR) and use "{local_name}"'
    if kinds & _NO_ACCESS:
        return ConfigError(
            f"encode: {encode}: the hub denies access ({reason}); request it at {page}, log in with: "
            f"hf auth login, and run this again; {by_hand}"
        )
    if kinds & _NO_NETWORK:
        return ConfigError(
            f"encode: {encode}: its weights are not on this machine and the hub cannot be reached "
            f"({reason}); run this once with a network connection; {by_hand}"
        )
    where = f" from {weights}" if weights else ""
    return ConfigError(
        f"encode: {encode}: timm cannot load it{where} ({reason}); expected a model that timm knows, with "
        "weights that fit it; see docs/encoders.md"
    )


def _announce_download(
    encode: str, known: KnownEncoder | None, repository: str, *, tell: Callable[[str], None]
) -> None:
    """Announce a download, if one is needed.

    Raises:
        ConfigError: If one is needed and HF_HUB_OFFLINE forbids it.
    """
    if not repository or weights_are_cached(repository):
        return
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        offline = ConnectionError("HF_HUB_OFFLINE is set")
        raise _load_error(offline, encode, known, weights=None, repository=repository)
    access = f"; access must be requested at {known.page}" if known else ""
    tell(f"encode: {encode} is not on this machine yet: downloading {repository} from the hub{access}")


def weights_are_cached(repository: str) -> bool:
    """Whether the weights of OWNER/NAME[@REVISION] are in the local cache of the hub."""
    try:
        look_up = import_module("huggingface_hub").try_to_load_from_cache
    except ImportError:
        return False
    name, _, revision = repository.partition("@")
    wanted = {"revision": revision} if revision else {}
    return any(isinstance(look_up(name, one, **wanted), str) for one in _WEIGHTS)


def _repository(timm: ModuleType, encode: str, known: KnownEncoder | None) -> str:
    """OWNER/NAME[@REVISION] on the hub; empty for a model that is not on the hub."""
    if encode.startswith("timm:"):
        config = timm.get_pretrained_cfg(split_location(encode)[0].removeprefix("timm:"))
        return getattr(config, "hf_hub_id", None) or ""
    if encode.startswith("hf-hub:"):
        return encode.removeprefix("hf-hub:")
    return known.repository if known and not encode.startswith("local-dir:") else ""


def _label(encode: str, known: KnownEncoder | None) -> str:
    if known is not None:
        return known.name
    return short_name(encode).removeprefix("timm.").removeprefix("hf-hub.")
