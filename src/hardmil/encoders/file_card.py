"""What encoders that come as one file share: where it lies, the card beside it, the name it is known by."""

import hashlib
from pathlib import Path

from pydantic import ConfigDict, Field, ValidationError

from hardmil.config.known_encoders import IMAGENET_MEAN, IMAGENET_STD, Channels
from hardmil.config.section import Section
from hardmil.errors import ConfigError, TableError
from hardmil.files.atomic import read_json


class FileCard(Section):
    """What a network expects of its input: FILE.json beside FILE; without one, ImageNet's normalisation.

    `mean` and `std` are of RGB in 0 to 1; `input_px` and `um_per_px` of the patches it was trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    input_px: int | None = Field(default=None, ge=8, le=4096)
    um_per_px: float | None = Field(default=None, gt=0)


def card_path(path: Path) -> Path:
    """Where the card of an encoder's file is looked for."""
    return path.with_name(path.name + ".json")


def read_card(path: Path) -> FileCard:
    """The card beside an encoder's file.

    Raises:
        ConfigError: If it holds no such card.
    """
    card = card_path(path)
    if not card.is_file():
        return FileCard()
    try:
        found = FileCard.model_validate(read_json(card))
    except (TableError, ValidationError) as error:
        reason = str(error).splitlines()[-1] if isinstance(error, TableError) else error.errors()[0]["msg"]
        raise ConfigError(
            f"{card}: not the card of an encoder ({reason}); expected "
            '{"mean": [R, G, B], "std": [R, G, B], "input_px": 224, "um_per_px": 0.5}, any of them'
        ) from error
    if min(found.std) <= 0:
        raise ConfigError(f"{card}: std is {list(found.std)}; expected numbers above 0, of RGB in 0 to 1")
    return found


def file_name(path: Path) -> str:
    """Its name with eight hex digits of what is in it, and in its card: other weights, another name."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    card = card_path(path)
    if card.is_file():
        digest.update(card.read_bytes())
    return f"{path.name}-{digest.hexdigest()[:8]}"


def find_file(place: str, *, folders: tuple[Path, ...], what: str) -> Path:
    """The file or folder of this name in the first of the folders that has it.

    Raises:
        ConfigError: If none has.
    """
    tried = [folder / place for folder in folders or (Path(),)]
    for path in tried:
        if path.exists():
            return path
    listed = " or ".join(str(path) for path in dict.fromkeys(tried))
    raise ConfigError(
        f"encode: {what}: no such file; expected it at {listed}; copy it there, or correct the path"
    )
