"""The predictions of an arm for held-out slides in its first repeat, for the report."""

from collections.abc import Iterator
from pathlib import Path

from hardmil.evaluation.evaluation import Evaluation, TrialRows
from hardmil.evaluation.results import PredictionRow, key_of


def first_repeat(rows: TrialRows, *, arm: str) -> list[PredictionRow]:
    """The predictions of the arm in the first repeat that has any."""
    predictions = [row for row in rows.predictions if key_of(row).arm == arm]
    first = min((key_of(row).repeat for row in predictions), default=0)
    return [row for row in predictions if key_of(row).repeat == first]


def with_attention_file(
    evaluation: Evaluation, *, rows: TrialRows, arm: str
) -> Iterator[tuple[PredictionRow, Path]]:
    """Each prediction with the file of its attention, which is missing if the trials folder was deleted."""
    hashes = {row.trial: row.config_hash for row in rows.results}
    for row in first_repeat(rows, arm=arm):
        yield row, evaluation.folder / "trials" / hashes[key_of(row)] / "attention.h5"
