"""The effect of verdicts, round after round: runs/review/rounds.csv in the folder of a study."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hardmil.files.csv_table import columns_by_name, columns_of, read_table, write_table
from hardmil.files.locks import locked
from hardmil.preprocessing.study_folder import Study

RUN = "review"
"""Folder of the rounds, in `runs/`."""
ROUNDS = "rounds.csv"
WRITING_S = 60.0
"""How long to wait for another process that writes the table."""


@dataclass(frozen=True)
class Round:
    """The study's arm with and without the verdicts, on the same folds: a row of rounds.csv.

    `n_verdicts` patches were used, of them so many of each kind; `verdicts` is a hash of these. `fpr` and
    `sensitivity` are at the `threshold` of each arm, the operating point or 0.5, with 95% intervals by case;
    differences are with minus without, on the same cases. With more than two classes, these are means over
    the classes, `n_lesion` counts patches of any class but the negative one, and `n_of_class` those of each.
    """

    number: int
    at: str
    arm: str
    arm_with_verdicts: str
    threshold: str
    verdicts: str
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
    n_of_class: Mapping[str, float] = columns_by_name("n_class_")

    @property
    def kinds(self) -> str:
        """How many patches of each kind, or class, were used, in words."""
        lesions = {name: int(n) for name, n in self.n_of_class.items()} or {"lesion": self.n_lesion}
        shown = lesions | {"normal": self.n_normal, "artefact": self.n_artefact}
        return ", ".join(f"{n} {kind}" for kind, n in shown.items())


def rounds_path(study: Study) -> Path:
    """The table of the rounds."""
    return study.folder / "runs" / RUN / ROUNDS


def read_rounds(study: Study) -> list[Round]:
    """The rounds so far, first to last.

    Raises:
        TableError: If the table cannot be read.
    """
    return read_table(rounds_path(study), Round)


def add_round(study: Study, new: Round) -> Round:
    """The round with its number, after it was added to the table.

    A round of the same arms and verdicts as the last one takes its place.

    Raises:
        TableError: If the table cannot be read.
        StoreError: If the disk is full, or the folder is not writable.
    """
    path = rounds_path(study)
    with locked(path, patience_s=WRITING_S):
        rounds = read_rounds(study)
        if rounds and _key(rounds[-1]) == _key(new):
            rounds.pop()
        numbered = replace(new, number=len(rounds) + 1)
        columns = columns_of(
            Round, names=[*{name: 0 for one in [*rounds, numbered] for name in one.n_of_class}]
        )
        write_table(path, [*rounds, numbered], row=Round, columns=columns)
    return numbered


def _key(one: Round) -> tuple[str, str, str]:
    return one.arm, one.arm_with_verdicts, one.verdicts


def round_words(one: Round) -> list[str]:
    """What a round says, in words."""
    over = ", means over the classes" if one.n_of_class else ""
    return [
        f"round {one.number}: {one.arm_with_verdicts} beside {one.arm}, with verdicts on "
        f"{one.n_verdicts} patches ({one.kinds}), at threshold {one.threshold}{over}",
        _rate_words(one, field="fpr", name="false-positive rate"),
        _rate_words(one, field="sensitivity", name="sensitivity"),
        _conclusion(one),
    ]


def _rate_words(one: Round, *, field: str, name: str) -> str:
    def shown(part: str, sign: str = "") -> str:
        value, low, high = (getattr(one, f"{field}{part}{limit}") for limit in ("", "_low", "_high"))
        return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"

    difference = shown("_difference", sign="+")
    return f"{name}: {shown('')} without, {shown('_with')} with verdicts; difference {difference}"


def _conclusion(one: Round) -> str:
    if one.fpr_difference_high < 0:
        said = "the verdicts lowered the false-positive rate"
    elif one.fpr_difference_low > 0:
        said = "the verdicts raised the false-positive rate"
    elif one.fpr_difference_low == one.fpr_difference_high == 0:
        said = "the false-positive rate is the same"
    else:
        said = "whether the verdicts changed the false-positive rate is not decided"
    if one.sensitivity_difference_high < 0:
        return f"{said}; the sensitivity is lower, too"
    return said
