"""The encoder that a bundle names: its code runs only where the user trusts it."""

from pathlib import Path

from hardmil.bundles.bundle import Bundle
from hardmil.config.known_encoders import is_encoder_file, runs_code
from hardmil.encoders.encoder import PatchEncoder
from hardmil.encoders.file_card import file_name, find_file
from hardmil.encoders.open_encoder import encoder_of
from hardmil.errors import ConfigError


def bundle_encoder(bundle: Bundle, *, trust: bool = False) -> PatchEncoder | None:
    """The encoder of a bundle; its file may be in the bundle, next to it, or in the working folder.

    Args:
        bundle: The bundle.
        trust: Whether an encoder that is code may run: TorchScript, torch.export, or a function of a Python
            module. Other encoders run in any case.

    Raises:
        ConfigError: If it is not available, has other weights than the one the bundle was trained with, or is
            code that is not trusted.
    """
    config, folder = bundle.instance_config, bundle.folder or Path()
    if config is None:
        return None
    folders = (folder, folder.parent, Path())
    if is_encoder_file(config.encode):
        path = find_file(config.encode, folders=folders, what=config.encode)
        # Before the file is opened, which may run its code.
        _check_same(bundle, file_name(path), folder=folder)
        whose = f"the file {path}"
    else:
        whose = "a Python module, wherever Python finds one of this name"
    if runs_code(config.encode) and not trust:
        raise ConfigError(
            f"{folder}: the bundle names the encoder {config.encode}, which is code that would run on this "
            f"computer: {whose}; if you trust whoever made it, add --trust-encoder"
        )
    encoder = encoder_of(
        config, device=bundle.device, precision=bundle.network.config.training.precision, folders=folders
    )
    if encoder is not None:
        _check_same(bundle, encoder.name, folder=folder)
    return encoder


def _check_same(bundle: Bundle, name: str, *, folder: Path) -> None:
    """Raise ConfigError where an encoder is not the one that the bundle was trained with."""
    wanted = bundle.card.encoder
    if wanted is not None and name != wanted:
        raise ConfigError(
            f"{folder}: was trained on embeddings of {wanted}, but {bundle.card.encode} is {name} here; "
            "expected the same weights; bring that file or version, or train the bundle again"
        )
