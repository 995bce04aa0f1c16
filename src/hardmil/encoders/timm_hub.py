"""Encoders through timm: its own models by name, models of the Hugging Face hub, folders that hold one."""

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
# By name, as the hub's library need not be there to say what its errors are called.
_NO_ACCESS = {"GatedRepoError", "RepositoryNotFoundError"}
_NO_NETWORK = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError"}


def open_timm(
    encode: str,
    *,
    place: Path | None,
    device: str,
    half: Half | None,
    input_px: int | None,
    tell: Callable[[str], None],
) -> TorchEncoder:
    """The encoder that timm loads under this name, without its last layer.

    Args:
        encode: timm:NAME, hf-hub:OWNER/NAME, local-dir:FOLDER, or a name of `hardmil.encoders.KNOWN`.
        place: Where its weights lie; None: timm's cache, or a download, which is told of first.
        device: Where it runs.
        half: Arithmetic of autocast.
        input_px: Edge that patches are resized to; None: the edge it was trained on.
        tell: Takes what the user should read before a long wait.

    Raises:
        ConfigError: If timm is not usable here, the model is not known to it, or its weights cannot be had.
    """
    timm = load_timm()
    known = known_encoder(encode)
    repository = _repository(timm, encode, known)
    if place is None:
        _say_download(encode, known, repository, tell=tell)
    network = _created(timm, encode, known, place=place, repository=repository)
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
    """All tokens of a vision transformer -> its class token beside the mean of its patch tokens.

    Source: the model card of Virchow2, which leaves out the register tokens between the two.
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
    """The library.

    Raises:
        ConfigError: If it does not load here.
    """
    try:
        timm = import_module("timm")
        import_module("timm.data")
    except (ImportError, RuntimeError) as error:
        # A torchvision that was built for another torch fails with RuntimeError.
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"encode: timm does not load here ({reason}); run: {INSTALL}, with a torchvision made for the "
            "torch that is installed"
        ) from error
    return timm


def _created(
    timm: ModuleType, encode: str, known: KnownEncoder | None, *, place: Path | None, repository: str
) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 0} | (dict(known.options) if known else {})
    if known and known.swiglu:
        options |= {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU}
    name, _ = split_location(encode)
    if name.startswith("timm:"):
        name = name.removeprefix("timm:")
        options |= {"pretrained_cfg_overlay": {"file": str(place)}} if place else {}
    elif place is not None:
        name = f"local-dir:{place}"
    elif known and not encode.startswith("hf-hub:"):
        name = f"hf-hub:{known.repository}"
    try:
        return timm.create_model(name, pretrained=True, **options)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise _refusal(error, encode, known, place=place, repository=repository) from error


def _refusal(
    error: Exception, encode: str, known: KnownEncoder | None, *, place: Path | None, repository: str
) -> ConfigError:
    """What to do about it, by what kind of error it was."""
    kinds = {one.__name__ for one in type(error).__mro__}
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    page = known.page if known else f"https://huggingface.co/{repository}"
    there = f"{known.name}@DIR" if known else "local-dir:DIR"
    if encode.startswith("timm:"):
        there = f"{split_location(encode)[0]}@DIR/model.safetensors"
    by_hand = f'or fetch it elsewhere (hf download {repository} --local-dir DIR) and name "{there}"'
    if kinds & _NO_ACCESS:
        return ConfigError(
            f"encode: {encode}: the hub gives no access ({reason}); ask for it at {page}, log in with: "
            f"hf auth login, and run this again; {by_hand}"
        )
    if kinds & _NO_NETWORK:
        return ConfigError(
            f"encode: {encode}: its weights are not on this machine and the hub cannot be reached "
            f"({reason}); run this once with a network; {by_hand}"
        )
    where = f" from {place}" if place else ""
    return ConfigError(
        f"encode: {encode}: timm cannot load it{where} ({reason}); expected a model that timm knows, with "
        "weights that fit it; see docs/encoders.md"
    )


def _say_download(
    encode: str, known: KnownEncoder | None, repository: str, *, tell: Callable[[str], None]
) -> None:
    """Tell of a download before it begins.

    Raises:
        ConfigError: If there would be one and HF_HUB_OFFLINE forbids it.
    """
    if not repository or weights_are_cached(repository):
        return
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        offline = ConnectionError("HF_HUB_OFFLINE is set")
        raise _refusal(offline, encode, known, place=None, repository=repository)
    uses_verdicts = f"; it asks for access: {known.page}" if known else ""
    tell(f"encode: {encode} is not on this machine yet: fetching {repository} from the hub{uses_verdicts}")


def weights_are_cached(repository: str) -> bool:
    """Whether the weights of OWNER/NAME[@REVISION] are in the cache of the hub's library."""
    try:
        look_up = import_module("huggingface_hub").try_to_load_from_cache
    except ImportError:
        return False
    name, _, revision = repository.partition("@")
    wanted = {"revision": revision} if revision else {}
    return any(isinstance(look_up(name, one, **wanted), str) for one in _WEIGHTS)


def _repository(timm: ModuleType, encode: str, known: KnownEncoder | None) -> str:
    """OWNER/NAME[@REVISION] on the hub; empty for what is not there."""
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
