"""What verdicts bought, round after round: runs/review/rounds.csv in the folder of a study."""

from dataclasses import dataclass
from pathlib import Path

from hardmil.files.csv_table import read_table
from hardmil.preprocessing.study_folder import Study

RUN = "review"
"""Folder of the rounds, in `runs/`."""
ROUNDS = "rounds.csv"


@dataclass(frozen=True)
class Round:
    """The study's arm with and without the verdicts, on the same folds: a row of rounds.csv.

    `n_verdicts` were used, of them so many of each kind. `fpr` and `sensitivity` are at the operating point
    of each arm, with 95% intervals by case; differences are with minus without, on the same cases.
    """

    number: int
    at: str
    arm: str
    arm_with_verdicts: str
    n_verdicts: int
    n_lesion: int
    n_normal: int
    n_artefact: int
    fpr: float
    fpr_low: float
    fpr_high: float
    fpr_with: float
    fpr_with_low: float
    fpr_with_high: float
    fpr_difference: float
    fpr_difference_low: float
    fpr_difference_high: float
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    sensitivity_with: float
    sensitivity_with_low: float
    sensitivity_with_high: float
    sensitivity_difference: float
    sensitivity_difference_low: float
    sensitivity_difference_high: float


def rounds_path(study: Study) -> Path:
    """The table of the rounds."""
    return study.folder / "runs" / RUN / ROUNDS


def read_rounds(study: Study) -> list[Round]:
    """The rounds so far, first to last.

    Raises:
        TableError: If the table cannot be read.
    """
    return read_table(rounds_path(study), Round)
