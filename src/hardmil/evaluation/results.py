"""The tables of a study on disk: results, predictions, hard negatives, attention of the test bags.

A trial's rows are put in whole, results last; a row without its trial's other rows cannot be left behind.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from hardmil.bags.bag import Bag
from hardmil.files.csv_table import read_rows, write_rows
from hardmil.mining.hard_instances import HardInstance

TRIAL = ("arm", "split", "patches", "repeat", "fold")
METRICS = ("accuracy", "precision", "recall", "f_score", "auc", "fpr")
RESULTS = (
    *(*TRIAL, "config_hash", "n_false_positive_bags", "n_hard", *METRICS),
    *("op_threshold", "instance_auc", "mined_look_alikes", "seconds"),
)
PREDICTIONS = (*TRIAL, "slide_id", "case_id", "label", "bag_score", "prediction", "op_prediction")
MINED = (
    "round",
    "slide_id",
    "case_id",
    "instance",
    "x",
    "y",
    "size_level0",
    "attention",
    "bag_score",
    "cluster",
    "source",
)
HARD_NEGATIVES = (*TRIAL, *MINED)


def replace_rows(
    path: Path, rows: Sequence[Mapping[str, object]], *, trial: Mapping[str, object], columns: Sequence[str]
) -> None:
    """Put a trial's rows into a table, in the place of any it had there."""
    name, old = trial_name(trial), read_rows(path)
    first = next((i for i, row in enumerate(old) if trial_name(row) == name), len(old))
    after = [row for row in old[first:] if trial_name(row) != name]
    write_rows(path, [*old[:first], *({**trial, **row} for row in rows), *after], columns=columns)


def trial_name(row: Mapping[str, object]) -> tuple[str, ...]:
    """Which trial a row belongs to."""
    return tuple(str(row[column]) for column in TRIAL)


def prediction_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Columns of predictions.csv for these classes."""
    return (*PREDICTIONS, *(f"prob_{name}" for name in classes))


def prediction_row(
    bag: Bag,
    score: float,
    *,
    classes: Sequence[str],
    threshold: float = 0.5,
    op_threshold: float = math.nan,
    probability: float | None = None,
) -> dict[str, object]:
    """What a model scores a bag, as a row of predictions.csv; no `op_prediction` without a threshold.

    `probability` of the positive class is the calibrated one; None where there is none: the score then.
    """
    chance = score if probability is None else probability
    by_op = "" if math.isnan(op_threshold) else classes[int(score > op_threshold)]
    return {
        "slide_id": bag.slide_id,
        "case_id": bag.case_id,
        "label": classes[bag.label] if bag.label >= 0 else "",
        "bag_score": score,
        "prediction": classes[int(score > threshold)],
        "op_prediction": by_op,
        f"prob_{classes[0]}": 1 - chance,
        f"prob_{classes[1]}": chance,
    }


def hard_negative_rows(pool: Iterable[HardInstance]) -> list[dict[str, object]]:
    """Mined instances as rows of hard_negatives.csv."""
    return [asdict(one) for one in pool]
