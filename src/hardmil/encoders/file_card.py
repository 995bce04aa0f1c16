"""Encoders in a single file: finding it, the card next to it, and the name of the encoder."""

import hashlib
from pathlib import Path

from pydantic import ConfigDict, Field, ValidationError

from hardmil.config.known_encoders import IMAGENET_MEAN, IMAGENET_STD, Channels
from hardmil.config.section import Section
from hardmil.errors import ConfigError, TableError
from hardmil.files.atomic import read_json


class FileCard(Section):
    """The input that a network expects, from FILE.json next to FILE; by default, ImageNet's normalisation.

    `mean` and `std` are for RGB from 0 to 1; `input_px` and `um_per_px` are those of the training patches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    input_px: int | None = Field(default=None, ge=8, le=4096)
    um_per_px: float | None = Field(default=None, gt=0)


def card_path(path: Path) -> Path:
    """The path of the card of an encoder's file."""
    return path.with_name(path.name + ".json")


def read_card(path: Path) -> FileCard:
    """The card next to an encoder's file; the default one if there is none.

    Raises:
        ConfigError: If the card is invalid.
    """
    card = card_path(path)
    if not card.is_file():
        return FileCard()
    try:
        found = FileCard.model_validate(read_json(card))
    except (TableError, ValidationError) as error:
        reason = error.__cause__ if isinstance(error, TableError) else error.errors()[0]["msg"]
        raise ConfigError(
            f"{card}: is not a valid card of an encoder ({reason}); expected "
            '{"mean": [R, G, B], "std": [R, G, B], "input_px": 224, "um_per_px": 0.5}, any of them'
        ) from error
    if min(found.std) <= 0:
        raise ConfigError(f"{card}: std is {list(found.std)}; expected numbers above 0, for RGB from 0 to 1")
    return found


def file_name(path: Path) -> str:
    """The name of the file with a hash of its content and its card, so that it changes with the weights."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    card = card_path(path)
    if card.is_file():
        digest.update(card.read_bytes())
    return f"{path.name}-{digest.hexdigest()[:8]}"


def find_file(name: str, *, folders: tuple[Path, ...], what: str) -> Path:
    """The path of the file or folder with this name, in the first of the folders that has it.

    Raises:
        ConfigError: If none has it.
    """
    tried = [folder / name for folder in folders or (Path(),)]
    for path in tried:
        if path.exists():
            return path
    listed = " or ".join(str(path) for path in dict.fromkeys(tried))
    raise ConfigError(
        f"encode: {what}: no such file; expected it at {listed}; copy it there, or correct the path"
    )
