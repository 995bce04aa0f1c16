"""The tables of a study on disk: results, predictions, hard negatives, attention of the test bags.

A trial's rows are put in whole, results last; a row without its trial's other rows cannot be left behind.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np

from hardmil.bags.bag import Bag
from hardmil.files.atomic import write_atomically
from hardmil.files.h5 import write_h5
from hardmil.mil.inference import BagScore
from hardmil.mining.hard_instances import HardInstance

Row = dict[str, str]

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


def read_rows(path: Path) -> list[Row]:
    """The rows of a table; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Iterable[Mapping[str, object]], *, columns: Sequence[str]) -> None:
    """Write a table; it appears whole or not at all."""
    with write_atomically(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _text(row.get(name, "")) for name in columns} for row in rows)


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


def write_attention(path: Path, bags: Sequence[Bag], *, scores: Sequence[BagScore]) -> None:
    """Write `attention_scores`, `coords` and any `contributions` of each bag, one group a slide_id.

    Contributions and the attribute `bias` add up to the logit of `bag_score`.
    """
    with write_h5(path) as file:
        for bag, score in zip(bags, scores, strict=True):
            group = file.create_group(bag.slide_id)
            group["attention_scores"] = score.attention
            group["coords"] = bag.coords
            group["instance_logits"] = score.instance_logit
            if score.contribution is not None:
                group["contributions"] = score.contribution
                group.attrs["bias"] = score.bias
            group.attrs["bag_score"] = score.bag_score
            group.attrs["patch_size_level0"] = bag.size_level0_px


def read_attention(path: Path, *, slide_id: str) -> tuple[np.ndarray, np.ndarray]:
    """`attention_scores` and `coords` of one slide."""
    with h5py.File(path) as file:
        names = (f"{slide_id}/attention_scores", f"{slide_id}/coords")
        attention, coords = (np.asarray(file[name]) for name in names)
        return attention, coords


def read_score(path: Path, *, slide_id: str) -> BagScore:
    """What `write_attention` kept of one slide; instance logits are all 0 in files from before they were."""
    with h5py.File(path) as file:

        def kept(name: str) -> np.ndarray | None:
            name = f"{slide_id}/{name}"
            return np.asarray(file[name]) if name in file else None

        attention, _ = read_attention(path, slide_id=slide_id)
        logits = kept("instance_logits")
        attributes = dict(file[slide_id].attrs)
        return BagScore(
            bag_score=float(np.asarray(attributes["bag_score"])),
            attention=attention,
            instance_logit=np.zeros_like(attention) if logits is None else logits,
            contribution=kept("contributions"),
            bias=float(np.asarray(attributes.get("bias", 0.0))),
        )


def _text(value: object) -> object:
    # Nine digits carry a float32 whole: of confident models, scores differ in the seventh only.
    return f"{value:.9g}" if isinstance(value, float) else value
