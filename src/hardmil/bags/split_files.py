"""Folds from files: splits of CLAM, or columns of a table."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from hardmil.bags.folds import Fold
from hardmil.errors import TableError
from hardmil.files.atomic import visible
from hardmil.files.user_table import UserTable, read_user_table

EXPECTED = "splits of CLAM, or a table with columns slide_id and fold_0, fold_1, ..."


def read_splits(path: Path, slide_ids: Sequence[str], *, failed: Collection[str] = ()) -> list[Fold]:
    """The folds in a folder of CLAM splits, or in columns fold_0, fold_1, ... of a table, by number.

    A slide that is in no column of a file, or has an empty cell, is left out of that fold. Cases are not
    checked: see `check_folds`.

    Args:
        path: A folder with `splits_0.csv`, ... (columns train, val, test), or a CSV with columns slide_id and
            fold_0, ..., whose cells are train, val or test.
        slide_ids: Ids of the bags; the positions in a fold are indices into it.
        failed: Slides of the table without a bag; they are left out of the folds.

    Raises:
        TableError: If there is no such file, a column is missing, a cell is not train, val or test, a slide
            is not in the table, or a fold has no slides in train or test.
    """
    if path.is_file():
        return _read_fold_columns(path, slide_ids, failed)
    return _read_split_files(path, slide_ids, failed)


def _read_fold_columns(path: Path, slide_ids: Sequence[str], failed: Collection[str]) -> list[Fold]:
    table = read_user_table(path, what=EXPECTED)
    names = {
        int(found.group(1)): name for name in table.header if (found := re.fullmatch(r"fold_(\d{1,9})", name))
    }
    if not names or "slide_id" not in table.header:
        raise TableError(
            f"{path}: no columns slide_id and fold_0, fold_1, ...; expected one column per fold; add them"
        )
    positions = {slide_id: position for position, slide_id in enumerate(slide_ids)}
    return [_fold_of_column(table, names[n], positions, failed) for n in sorted(names)]


def _fold_of_column(table: UserTable, name: str, positions: dict[str, int], failed: Collection[str]) -> Fold:
    sides: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, row in table.lines:
        side, slide_id = row[name].lower(), row["slide_id"]
        if side and side not in sides:
            raise TableError(
                f"{table.path}, line {number}: {name} is {side!r}; expected train, val or test; correct it"
            )
        if side and slide_id not in failed:
            sides[side].append(slide_id)
    found = {side: _positions(table.path, name, ids, positions) for side, ids in sides.items()}
    return _fold(found, where=f"{table.path}, column {name}")


def _read_split_files(folder: Path, slide_ids: Sequence[str], failed: Collection[str]) -> list[Fold]:
    try:
        paths = visible(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise TableError(
            f"{folder}: cannot be read ({error.strerror}); expected {EXPECTED}; change its permissions"
        ) from error
    numbered = {
        int(found.group(1)): path
        for path in paths
        if (found := re.fullmatch(r"splits_(\d{1,9})\.csv", path.name))
    }
    if not numbered:
        raise TableError(
            f"{folder}: no splits_0.csv; expected splits of CLAM, one file per fold, or a table with fold_0"
        )
    positions = {slide_id: position for position, slide_id in enumerate(slide_ids)}
    return [_read_split(path, positions, failed) for _, path in sorted(numbered.items())]


def _read_split(path: Path, positions: dict[str, int], failed: Collection[str]) -> Fold:
    table = read_user_table(path, what=EXPECTED)
    columns = {name.lower(): name for name in table.header}
    for side in ("train", "test"):
        if side not in columns:
            raise TableError(
                f"{path}: no column {side}; found {', '.join(filter(None, table.header))}; expected columns "
                "train, val and test with slide ids, as in the splits of CLAM"
            )
    ids = {side: _ids(table, columns.get(side, side), failed) for side in ("train", "val", "test")}
    found = {side: _positions(path, side, ids[side], positions) for side in ids}
    return _fold(found, where=str(path))


def _fold(sides: Mapping[str, np.ndarray], *, where: str) -> Fold:
    for side in ("train", "test"):
        if len(sides[side]) == 0:
            raise TableError(f"{where}: no slides in {side}; expected some in train and in test; add them")
    return Fold(sides["train"], sides["test"], sides["val"] if len(sides["val"]) else None)


def _ids(table: UserTable, side: str, failed: Collection[str]) -> list[str]:
    cells = [row.get(side, "") for _, row in table.lines]
    return [slide_id for slide_id in cells if slide_id and slide_id not in failed]


def _positions(path: Path, side: str, ids: list[str], positions: dict[str, int]) -> np.ndarray:
    unknown = [slide_id for slide_id in ids if slide_id not in positions]
    if unknown:
        raise TableError(
            f"{path}, column {side}: {len(unknown)} slides are not in the table, the first is {unknown[0]}; "
            "expected slide_ids of the table; correct one of the two"
        )
    return np.unique(np.array([positions[slide_id] for slide_id in ids], dtype=np.int64))
