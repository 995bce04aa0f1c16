"""Paths and texts without what they say about a computer and its users."""

import os
from collections.abc import Mapping
from pathlib import Path


def without_home(text: str) -> str:
    """A text in which `~` replaces the path of the home folder."""
    home = str(Path.home())
    return text if home == os.sep else text.replace(home, "~")


def shown_paths(value: object, *, below: Path) -> object:
    """A value with nested lists and mappings in which paths are shortened.

    A path below the folder becomes relative to it; of another absolute path, or one that leaves the working
    folder, only the name is kept. So are the values of `--option=PATH` and `KEY=PATH`. Other text
    stays as it is.
    """
    if isinstance(value, Mapping):
        return {key: shown_paths(one, below=below) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [shown_paths(one, below=below) for one in value]
    if isinstance(value, Path):
        return _shown(str(value), below=below)
    if isinstance(value, str):
        name, equals, path = value.partition("=")
        return f"{name}={_shown(path, below=below)}" if equals else _shown(value, below=below)
    return value


def _shown(text: str, *, below: Path) -> str:
    path = Path(text)
    leaves = path.is_absolute() or text.startswith("~") or ".." in path.parts
    if not leaves and not (len(path.parts) > 1 and os.path.exists(path)):
        return without_home(text)
    found = Path(os.path.realpath(path.expanduser()))
    folder = Path(os.path.realpath(below))
    return str(found.relative_to(folder)) if found.is_relative_to(folder) else found.name
