"""The synthetic sets of docs/false-positives.md: slides with rare foci, and the slides of the demo.

Used by benchmarks/false_positives.py. Each seed is a cohort of its own, and counts as a repeat.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from false_positive_runs import KEPT, Where, evaluate_study, keep
from rare_foci import write_rare_foci

from hardmil.commands.demo import write_demo_study
from hardmil.evaluation.results import CHOICES, ChoiceRow, PredictionRow, ResultRow
from hardmil.files.csv_table import read_table, write_table

Row = TypeVar("Row", ResultRow, PredictionRow, ChoiceRow)

SEEDS = range(10)
ARMS = ("ours", "ours-top5", "abmil", "ours+instance", "auto")


STUDIES: Mapping[str, Callable[..., None]] = {
    "foci": write_rare_foci,
    "demo": partial(write_demo_study, quiet=True),
}
"""What draws the slides of a cohort and writes its study.yaml."""
# docs/rare-foci.md has no operating point.
OVERRIDES = {"foci": ("evaluation.operating_folds=4",), "demo": ()}


def run_cohorts(name: str, *, arms: Sequence[str], where: Where) -> None:
    """Run the missing trials of these arms on every seed, and keep the rows of each."""
    kept = {(row.trial.arm, row.trial.repeat) for row in read_table(KEPT / name / "results.csv", ResultRow)}
    for seed in SEEDS:
        missing = [arm for arm in arms if (arm, seed) not in kept]
        if missing:
            keep(_run_seed(name, seed, arms=missing, where=where), to=KEPT / name)


def _run_seed(name: str, seed: int, *, arms: Sequence[str], where: Where) -> Path:
    """The folder of the tables of one cohort, with its seed as the repeat."""
    folder = where.output / name / f"seed-{seed}"
    STUDIES[name](folder, seed=seed)
    tables = evaluate_study(folder, arms=arms, where=where, overrides=OVERRIDES[name])
    _write_with_seed(tables, seed=seed, to=folder / "tables")
    return folder / "tables"


def _write_with_seed(tables: Path, *, seed: int, to: Path) -> None:
    """The tables with the seed as the repeat; it is in the cases too, as cohorts share none."""
    results = read_table(tables / "results.csv", ResultRow)
    predictions = [
        replace(row, case_id=f"{seed} {row.case_id}")
        for row in read_table(tables / "predictions.csv", PredictionRow)
    ]
    write_table(to / "results.csv", _of_seed(results, seed), row=ResultRow)
    write_table(to / "predictions.csv", _of_seed(predictions, seed), row=PredictionRow)
    write_table(to / CHOICES, _of_seed(read_table(tables / CHOICES, ChoiceRow), seed), row=ChoiceRow)


def _of_seed(rows: Sequence[Row], seed: int) -> list[Row]:
    return [replace(row, trial=replace(row.trial, repeat=seed)) for row in rows]
