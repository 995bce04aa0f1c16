"""`hardmil evaluate STUDY`: arms, repeats and folds; results.csv and report.html."""

from collections.abc import Sequence
from pathlib import Path

from hardmil.commands.arms_table import arms_table, arms_values, choice_lines, comparison_lines
from hardmil.jobs.outcome import Outcome
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.preprocessing.study_folder import open_study
from hardmil.report import evaluation_run
from hardmil.tracking import TrackWith


def evaluate(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    name: str = "main",
    only_folds: tuple[int, ...] | None = None,
    device: str | None = None,
    engine: Engine = LOCAL,
    track: TrackWith | None = None,
    deidentify: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Run the study's arms, and say how they compare."""
    study = open_study(path, overrides=overrides)
    run = evaluation_run.evaluate(
        study,
        name=name,
        only_folds=only_folds,
        device=device,
        engine=engine,
        track=track,
        deidentify=deidentify,
        quiet=quiet,
    )
    summary = run.statistics.summary
    lines = [
        *run.notes,
        *([study.config.about] if study.config.about else []),
        f"positive label: {study.slide_table.classes[-1]}",
        *arms_table(summary, intervals=run.statistics.intervals),
        *choice_lines(run.statistics),
        *comparison_lines(run.statistics),
        f"tables: {run.folder}",
        f"report: {run.report}",
    ]
    values = {"folder": str(run.folder), "report": str(run.report), "arms": arms_values(summary)}
    return Outcome(lines, values, run.failures, run.log)
