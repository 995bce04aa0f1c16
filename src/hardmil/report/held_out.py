"""What an arm said of the slides held out, slide by slide, for the report: its first repeat."""

from collections.abc import Iterator
from pathlib import Path

from hardmil.evaluation.evaluation import Evaluation, TrialRows
from hardmil.evaluation.results import trial_name
from hardmil.files.csv_table import Row


def first_repeat(rows: TrialRows, *, arm: str) -> list[Row]:
    """The arm's predictions in the first repeat that has any."""
    predictions = [row for row in rows.predictions if row["arm"] == arm]
    first = min((int(row["repeat"]) for row in predictions), default=0)
    return [row for row in predictions if int(row["repeat"]) == first]


def with_attention_file(evaluation: Evaluation, *, rows: TrialRows, arm: str) -> Iterator[tuple[Row, Path]]:
    """Each of them with the file that holds its attention, unless trials/ was thrown away."""
    hashes = {trial_name(row): row["config_hash"] for row in rows.results}
    for row in first_repeat(rows, arm=arm):
        yield row, evaluation.folder / "trials" / hashes[trial_name(row)] / "attention.h5"
