"""The folder of a prediction: a new one beside an earlier one."""

from pathlib import Path

DEFAULT_FOLDER = Path("predictions")
TABLE = "predictions.csv"


def free_folder(wanted: Path = DEFAULT_FOLDER) -> Path:
    """The folder, or predictions-2, predictions-3, ... where it holds a prediction."""
    number, folder = 1, wanted
    while (folder / TABLE).exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder
