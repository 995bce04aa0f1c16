"""`hardmil evaluate STUDY`: arms x repeats x folds, results.csv, report.html."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hardmil.commands.arms_table import arms_table, arms_values, comparison_lines
from hardmil.device import find_device
from hardmil.errors import JobError
from hardmil.evaluation.arms import arm, with_controls
from hardmil.evaluation.cohort import study_cohort
from hardmil.evaluation.evaluation import Evaluation, TrialRows, evaluate_arms, patches_word, valid_rows
from hardmil.evaluation.study_folds import study_folds
from hardmil.evaluation.trial import operating_settings
from hardmil.files.run_record import write_run_record
from hardmil.jobs.failures import Failure, write_failures
from hardmil.jobs.outcome import Outcome
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.preprocessing.study_folder import Study, open_study, study_bags
from hardmil.report.assemble import Page, exclusions_of, write_evaluation_report
from hardmil.report.page_data import Exclusion
from hardmil.statistics.tables import Statistics, write_statistics
from hardmil.tracking import Tracker, TrackWith, tracked


def evaluate(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    name: str = "main",
    only_folds: tuple[int, ...] | None = None,
    device: str | None = None,
    engine: Engine = LOCAL,
    track: TrackWith | None = None,
    quiet: bool = False,
) -> Outcome:
    """Run the study's arms on the same folds and write the tables and the report to runs/<name>.

    Raises:
        BagError: If no slide has a bag.
        FoldError: If the folds cannot be drawn, or leak.
        JobError: If no trial could be done.
    """
    started = time.time()
    study = open_study(path, overrides=overrides)
    config = study.config
    arms = [arm(name, study=config) for name in with_controls(config.evaluation.arms)]
    found = study_bags(study, quiet=quiet)
    cohort = study_cohort(study, bags=found.bags)
    evaluation = Evaluation(
        cohort=cohort,
        folds=study_folds(study, cohort=cohort, left_out=found.left_out),
        arms=arms,
        classes=study.slide_table.classes,
        folder=study.folder / "runs" / name,
        split="case" if config.evaluation.splits is None else "file",
        patches=patches_word(config),
        seed=config.seed,
        only_folds=only_folds,
        operating=operating_settings(config.evaluation),
    )
    where = find_device(device or config.device, precision=config.training.precision)
    failed = evaluate_arms(evaluation, device=where, engine=engine, quiet=quiet)
    failures = [*found.failures, *failed]
    log = write_failures(evaluation.folder, failures)
    rows = valid_rows(evaluation)
    check_any_done(rows, failed=failed, log=log)
    statistics = write_statistics(
        evaluation.folder, rows=rows, positive=study.slide_table.classes[1], seed=config.seed
    )
    record = config.model_dump(mode="json")
    write_run_record(evaluation.folder, "hardmil evaluate", config=record, seed=config.seed, started=started)
    report = write_evaluation_report(
        _page(study, failures=failed, exclusions=exclusions_of(found)),
        evaluation=evaluation,
        rows=rows,
        statistics=statistics,
    )
    with tracked(track, folder=study.folder, name=f"evaluate {name}") as tracker:
        _tell(tracker, record=record, statistics=statistics, folder=evaluation.folder)
    lines = [
        *found.notes,
        *arms_table(statistics.summary, intervals=statistics.intervals),
        *comparison_lines(statistics),
        f"tables: {evaluation.folder}",
        f"report: {report}",
    ]
    arms_shown = arms_values(statistics.summary)
    values = {"folder": str(evaluation.folder), "report": str(report), "arms": arms_shown}
    return Outcome(lines, values, failures, log)


def _tell(tracker: Tracker, *, record: Mapping[str, object], statistics: Statistics, folder: Path) -> None:
    """Knobs, the arms' numbers, tables and report; `@` is no letter of a metric's name in MLflow."""
    tracker.params(record)
    for one in statistics.summary:
        for metric, value in one.values.items():
            tracker.metric(f"{one.arm.replace('@', '-at-')}/{metric}", value.mean)
    for name in ("results.csv", "summary.csv", "report.html"):
        tracker.artifact(folder / name)


def check_any_done(rows: TrialRows, *, failed: Sequence[Failure], log: Path | None) -> None:
    """Check that there is a row to make tables of.

    Raises:
        JobError: If every trial failed.
    """
    if failed and not rows.results:
        raise JobError(
            f"none of {len(failed)} trials could be done; first: {failed[0].name}: {failed[0].message}; "
            f"tracebacks of all in {log}"
        )


def _page(study: Study, *, failures: Sequence[Failure], exclusions: Sequence[Exclusion]) -> Page:
    negative, positive = study.slide_table.classes
    return Page(
        title=f"Study {study.folder.resolve().name}",
        question=(
            f"How often is a {negative} slide called {positive}, and does mining the patches that fooled the "
            "model lower that?"
        ),
        paths={row.slide_id: row.path for row in study.slide_table.rows},
        mpp={row.slide_id: row.mpp for row in study.slide_table.rows},
        config=study.config,
        failures=failures,
        exclusions=exclusions,
    )
