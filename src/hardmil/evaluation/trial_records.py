"""What each trial found, as a file of its own. The tables of an evaluation are made from these files.

A record holds all rows of one trial and is written whole, under `trials/<hash>/`, where its networks are too.
Several processes may therefore write to one folder, and tables that were deleted or changed come back.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hardmil.bags.bag import Bag
from hardmil.config.section import fingerprint
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.errors import TableError
from hardmil.evaluation.results import (
    CHOICES,
    HARD_NEGATIVES,
    PREDICTIONS,
    RESULTS,
    ChoiceRow,
    HardNegativeRow,
    PredictionRow,
    ResultRow,
    TrialKey,
    choice_rows,
    class_prediction_row,
    hard_negative_columns,
    prediction_columns,
    prediction_row,
    result_columns,
)
from hardmil.evaluation.trial import TrialResult
from hardmil.files.atomic import read_json, visible, write_json
from hardmil.files.csv_table import Cells, cells_of, columns_of, read_cells, rows_of_cells, write_cells

TRIALS = "trials"
TABLES = (RESULTS, PREDICTIONS, HARD_NEGATIVES, CHOICES)
TrialTables = Mapping[str, Sequence[Cells]]
"""The rows of one trial as text, by the name of their table; results.csv has one."""


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial; of two records of one trial, that with the later `written_ns` counts."""

    result: ResultRow
    tables: TrialTables
    written_ns: int


def trial_tables(
    result: TrialResult,
    *,
    trial: TrialKey,
    config_hash: str,
    test: Sequence[Bag],
    classes: Sequence[str],
    task: TaskConfig = TWO_CLASSES,
) -> TrialTables:
    """The rows of a finished trial; `test` are the held-out bags."""
    row = ResultRow(
        trial=trial,
        config_hash=config_hash,
        n_false_positive_bags=result.n_false_positive_bags,
        n_hard=len(result.hard_negatives),
        metrics=result.metrics,
        op_threshold=result.op_threshold,
        instance_auc=result.instance_auc,
        mined_look_alikes=result.mined_look_alikes,
        seconds=result.seconds,
        op_thresholds=dict(zip(task.branch_names, result.op_thresholds, strict=False)),
    )
    rows = {
        RESULTS: [row],
        PREDICTIONS: _predictions(result, trial=trial, test=test, classes=classes, task=task),
        HARD_NEGATIVES: [HardNegativeRow(trial, one) for one in result.hard_negatives],
        CHOICES: choice_rows(result.choice, trial=trial),
    }
    columns = _columns(classes, task=task)
    return {
        name: [{key: text for key, text in cells_of(one).items() if key in columns[name]} for one in some]
        for name, some in rows.items()
    }


def _predictions(
    result: TrialResult, *, trial: TrialKey, test: Sequence[Bag], classes: Sequence[str], task: TaskConfig
) -> list[PredictionRow]:
    probabilities = [None] * len(test) if result.probabilities is None else result.probabilities
    scored = zip(test, result.test_scores, probabilities, strict=True)
    if not task.is_binary:
        return [
            class_prediction_row(
                bag,
                score,
                task=task,
                trial=trial,
                thresholds=result.op_thresholds or None,
                probabilities=probability,
            )
            for bag, score, probability in scored
        ]
    return [
        prediction_row(
            bag,
            score.bag_score,
            classes=classes,
            trial=trial,
            op_threshold=result.op_threshold,
            probability=None if probability is None else float(probability),
        )
        for bag, score, probability in scored
    ]


def write_record(folder: Path, tables: TrialTables) -> None:
    """Write the record of a trial into the folder of its evaluation.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    (result,) = rows_of_cells(tables[RESULTS], ResultRow, path=folder)
    content = {"written_ns": time.time_ns(), "digest": _digest(tables), "tables": tables}
    write_json(record_path(folder, result.trial, config_hash=result.config_hash), content)


def read_record(path: Path) -> TrialRecord | None:
    """A record; None if it is missing or damaged, so that its trial has to be run again."""
    try:
        content = cast(Mapping[str, object], read_json(path))
        tables = cast(TrialTables, content["tables"])
        if content["digest"] != _digest(tables):
            return None
        (result,) = rows_of_cells(tables[RESULTS], ResultRow, path=path)
        return TrialRecord(result, tables, cast(int, content["written_ns"]))
    except (TableError, LookupError, TypeError, ValueError):
        return None


def record_path(folder: Path, trial: TrialKey, *, config_hash: str) -> Path:
    """Where the record of a trial is. Trials that differ in a word of their key only have one hash."""
    return folder / TRIALS / config_hash / f"trial-{fingerprint(cells_of(trial))[:8]}.json"


def record_paths(folder: Path) -> list[Path]:
    """The records in the folder of an evaluation."""
    return visible((folder / TRIALS).glob("*/trial-*.json"))


def write_tables(
    folder: Path,
    *,
    hashes: Mapping[TrialKey, str],
    order: Iterable[TrialKey],
    classes: Sequence[str],
    task: TaskConfig = TWO_CLASSES,
) -> None:
    """Make the tables of an evaluation from all records in its folder.

    Rows of trials that are not in `order` come first. If another process has written a record meanwhile, the
    tables are made again: the process that writes them last has seen all records. A record of this evaluation
    that is older than another one of the same trial is written again, so that it is the one that counts.

    Args:
        folder: The folder of the evaluation.
        hashes: The hash of each trial of this evaluation; of other trials, the record written last counts.
        order: The order of the trials.
        classes: The names of the classes; of two, the negative one first.
        task: What the networks tell apart.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    position = {trial: number for number, trial in enumerate(order)}
    seen: dict[Path, int] | None = None
    while seen != (found := _modified(folder)):
        every = [record for path in found if (record := read_record(path)) is not None]
        records = _current(every, hashes=hashes)
        if seen is None:
            _write_as_last(records, every=every, folder=folder)
        seen = found
        records.sort(key=lambda record: (position.get(record.result.trial, -1), record.written_ns))
        for name, columns in _columns(classes, task=task).items():
            lines = [line for record in records for line in record.tables.get(name, ())]
            if lines or name != CHOICES:
                write_cells(folder / name, lines, columns=columns)


def import_tables(folder: Path) -> None:
    """Write records of the trials in the tables, where there are no records: of an earlier version.

    A trial without predictions is left out, so that it is run again.
    """
    if record_paths(folder) or not (folder / RESULTS).exists():
        return
    by_trial: dict[TrialKey, dict[str, list[Cells]]] = {}
    for name in TABLES:
        lines = read_cells(folder / name)
        for line, trial in zip(lines, rows_of_cells(lines, TrialKey, path=folder / name), strict=True):
            by_trial.setdefault(trial, {}).setdefault(name, []).append(line)
    for tables in by_trial.values():
        if len(tables.get(RESULTS, ())) == 1 and PREDICTIONS in tables:
            write_record(folder, tables)


def _current(records: Iterable[TrialRecord], *, hashes: Mapping[TrialKey, str]) -> list[TrialRecord]:
    """One record of each trial."""
    found: dict[TrialKey, TrialRecord] = {}
    for record in records:
        trial, wanted = record.result.trial, hashes.get(record.result.trial)
        other = found.get(trial)
        rank = (record.result.config_hash == wanted, record.written_ns)
        if other is None or rank > (other.result.config_hash == wanted, other.written_ns):
            found[trial] = record
    return list(found.values())


def _write_as_last(records: Iterable[TrialRecord], *, every: Iterable[TrialRecord], folder: Path) -> None:
    """Write the records again that are not the last ones of their trial."""
    last = {record.result.trial: record for record in sorted(every, key=lambda record: record.written_ns)}
    for record in records:
        if last[record.result.trial] is not record:
            write_record(folder, record.tables)


def _columns(classes: Sequence[str], *, task: TaskConfig) -> dict[str, tuple[str, ...]]:
    return {
        CHOICES: columns_of(ChoiceRow),
        HARD_NEGATIVES: hard_negative_columns(task),
        PREDICTIONS: prediction_columns(classes, task=task),
        RESULTS: result_columns(task),
    }


def _modified(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in record_paths(folder)}


def _digest(tables: TrialTables) -> str:
    return hashlib.blake2b(json.dumps(tables, sort_keys=True).encode(), digest_size=8).hexdigest()
