"""Which files a command wrote into a folder: it replaces them when it is run again, and no others."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from hardmil.errors import HardmilError, TableError
from hardmil.files.atomic import read_json, store_errors, visible, write_json

MANIFEST = ".written.json"
"""Name of the list: the path of each file in the folder, with a digest of its content."""


@contextmanager
def replacing(folder: Path) -> Iterator[list[Path]]:
    """Remove what the last run wrote into a folder, and note at the end of the block what is new there.

    A file that was changed since, such as GeoJSON that a person has edited, is kept under another name: the
    list that is given to the block. Files that hardmil did not write stay as they are.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    with store_errors(folder, every=True):
        edited = _remove_written(folder)
        others = set(_files(folder))
    try:
        yield edited
    except BaseException:
        with suppress(HardmilError, OSError):
            _note(folder, others=others)
        raise
    _note(folder, others=others)


def _note(folder: Path, *, others: Collection[Path]) -> None:
    """Write the list of the files that are in the folder now, without others."""
    new = [path for path in _files(folder) if path not in others]
    write_json(folder / MANIFEST, {str(path.relative_to(folder)): _digest(path) for path in new})


def _remove_written(folder: Path) -> list[Path]:
    """Remove the files on the list, and the list; the new names of those that were changed."""
    edited: list[Path] = []
    for name, digest in _written(folder).items():
        path = folder / name
        if not path.is_file():
            continue
        if _digest(path) == digest:
            path.unlink()
        else:
            edited.append(path.rename(_free_name(path)))
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in reversed(visible(folder.rglob("*"))):
        if path.is_dir():
            with suppress(OSError):
                path.rmdir()  # only where it is empty
    return edited


def _written(folder: Path) -> Mapping[str, object]:
    """The list; empty where there is none that can be read."""
    path = folder / MANIFEST
    with suppress(TableError):
        found = read_json(path) if path.exists() else {}
        if isinstance(found, dict):
            return {name: value for name, value in found.items() if _is_inside(name)}
    return {}


def _is_inside(name: str) -> bool:
    """Whether a path of the list stays in the folder: the list may have been changed."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _free_name(path: Path) -> Path:
    """`a-edited.geojson`, `a-edited-2.geojson`, ..."""
    number, free = 1, path.with_stem(f"{path.stem}-edited")
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-edited-{number}")
    return free


def _files(folder: Path) -> list[Path]:
    """The files in a folder and below, without hidden ones."""
    return [
        path
        for path in visible(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def edited_notes(edited: list[Path]) -> list[str]:
    """A note for the user on the files that were kept under another name."""
    return [
        f"note: {path}: kept under this name, because it was changed after hardmil wrote it"
        for path in edited
    ]
