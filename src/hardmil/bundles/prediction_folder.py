"""The folder of a prediction: a new one beside an earlier one, and no files of an earlier one in it."""

import shutil
from pathlib import Path

from hardmil.files.atomic import read_json, store_errors

DEFAULT_FOLDER = Path("predictions")
TABLE, RECORD, COMMAND = "predictions.csv", "run.json", "hardmil predict"
FOLDERS = ("attention", "geojson", "heatmaps")
FILES = (TABLE, "predictions_by_case.csv", "diagnostics.csv", "metrics.json", "key_patches.html", RECORD)


def free_folder(wanted: Path = DEFAULT_FOLDER) -> Path:
    """The folder, or predictions-2, predictions-3, ... where it holds a prediction."""
    number, folder = 1, wanted
    while (folder / TABLE).exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def remove_earlier(folder: Path) -> None:
    """Remove the files of an earlier prediction: of slides that are not predicted now, they would stay.

    Nothing else in the folder is touched, and nothing where another command wrote it, such as `evaluate`,
    whose table has the same name.

    Raises:
        StoreError: If the folder is not writable.
    """
    path = folder / RECORD
    record = read_json(path) if path.exists() else None
    if not isinstance(record, dict) or record.get("command") != COMMAND:
        return
    with store_errors(folder, every=True):
        for name in FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
