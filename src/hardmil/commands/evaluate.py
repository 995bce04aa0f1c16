"""`hardmil evaluate STUDY`: arms, repeats and folds; results.csv and report.html."""

from collections.abc import Sequence
from pathlib import Path

from hardmil.commands.arms_table import arms_table, arms_values, choice_lines, comparison_lines
from hardmil.commands.class_lines import class_lines, class_values, classes_line
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
    task, whole = study.config.task, run.statistics.whole
    lines = [
        *run.notes,
        *([study.config.about] if study.config.about else []),
        classes_line(study.slide_table.classes, task=task),
        *arms_table(whole.summary, intervals=whole.intervals),
        *choice_lines(whole),
        *comparison_lines(whole),
        *class_lines(run.statistics, task=task),
        f"tables: {run.folder}",
        f"report: {run.report}",
    ]
    values = {
        "folder": str(run.folder),
        "report": str(run.report),
        "arms": arms_values(whole.summary),
        **class_values(run.statistics, task=task),
    }
    return Outcome(lines, values, run.failures, run.log)
