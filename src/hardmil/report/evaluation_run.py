"""Run an evaluation from the first trial to the report."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardmil.bags.pseudonyms import SUFFIX
from hardmil.checks.copies import notes_on_copies
from hardmil.config.task import MACRO
from hardmil.device import Device, find_device
from hardmil.errors import ConfigError, JobError
from hardmil.evaluation.arm_name import with_controls
from hardmil.evaluation.arms import Arm, arm, check_arms
from hardmil.evaluation.cohort import cases_by_class, deidentified_cohort, study_cohort
from hardmil.evaluation.evaluation import Evaluation, TrialRows, evaluate_arms, patches_word, valid_rows
from hardmil.evaluation.study_folds import study_folds
from hardmil.evaluation.study_review import reviewed_bags
from hardmil.evaluation.trial import operating_settings
from hardmil.files.atomic import check_writable
from hardmil.files.run_record import write_run_record
from hardmil.jobs.failures import Failure, write_failures
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.preprocessing.study_folder import Study, StudyBags, deidentified_study, read_bags
from hardmil.report.assemble import Page, exclusions_of, write_evaluation_report
from hardmil.statistics.cautions import few_of_a_class_notes
from hardmil.statistics.tables import Statistics, write_statistics
from hardmil.tracking import Tracker, TrackWith, tracked


@dataclass(frozen=True, eq=False)
class EvaluationRun:
    """What an evaluation left: its rows, what they say about the arms, and the report.

    `failures` are slides without a bag and trials that failed; `log` holds their tracebacks.
    """

    folder: Path
    rows: TrialRows
    statistics: Statistics
    report: Path
    notes: Sequence[str] = ()
    failures: Sequence[Failure] = ()
    log: Path | None = None


def evaluate(
    study: Study,
    *,
    name: str = "main",
    only_folds: tuple[int, ...] | None = None,
    device: str | None = None,
    engine: Engine = LOCAL,
    track: TrackWith | None = None,
    deidentify: bool = False,
    quiet: bool = False,
) -> EvaluationRun:
    """Run the study's arms on the same folds; tables and report go to runs/<name>.

    Args:
        study: The study.
        name: Folder of the run, in `runs/`.
        only_folds: Numbers of the folds to run; all by default.
        device: auto, cpu, cuda or mps; the study's `device` by default.
        engine: Where trials run.
        track: Log settings, numbers and report to this tracker.
        deidentify: Write pseudonyms instead of slide and case ids, to runs/<name>-deidentified.
        quiet: No progress bar.

    Raises:
        ConfigError: If the name is not that of a folder.
        BagError: If no slide has a bag.
        FoldError: If the folds cannot be drawn, or leak.
        JobError: If no trial could be done.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ConfigError(
            f"--name {name}: expected the name of a folder in runs/, without slash or first dot"
        )
    name += SUFFIX * deidentify
    folder = study.folder / "runs" / name
    check_writable(folder)
    started, config = time.time(), study.config
    names = with_controls(config.evaluation.arms)
    check_arms(names, study=config)
    reviewed = reviewed_bags(study, read_bags(study, quiet=quiet))
    found, failures = reviewed.found, reviewed.found.failures
    cohort = study_cohort(study, bags=found.bags, matched=reviewed.matched)
    folds = study_folds(study, cohort=cohort, left_out=found.left_out)
    if deidentify:
        study, found, pseudonyms = deidentified_study(study, found, output=folder)
        cohort = deidentified_cohort(cohort, pseudonyms)
    copies = notes_on_copies(cohort.bags)
    few = few_of_a_class_notes(cases_by_class(cohort, task=config.task))
    evaluation = Evaluation(
        cohort=cohort,
        folds=folds,
        arms=[arm(one, study=config, kind=cohort.bags[0].kind) for one in names],
        classes=study.slide_table.classes,
        folder=folder,
        split="case" if config.evaluation.splits is None else "file",
        patches=patches_word(config),
        seed=config.seed,
        only_folds=only_folds,
        operating=operating_settings(config.evaluation),
    )
    run = run_evaluation(
        evaluation,
        page=_page(study, found=found, copies=copies, few=few, deidentify=deidentify),
        command="hardmil evaluate",
        started=started,
        device=find_device(device or config.device, precision=config.training.precision),
        engine=engine,
        slide_failures=found.failures,
        quiet=quiet,
    )
    with tracked(track, folder=study.folder, name=f"evaluate {name}") as tracker:
        _log_run(tracker, settings=config.model_dump(mode="json"), run=run)
    # The terminal says why a slide has no bag, also where the files do not.
    failures = [*failures, *run.failures[len(failures) :]]
    notes = reviewed.notes(uses_verdicts=any(one.may_use_verdicts for one in evaluation.arms))
    return replace(run, notes=[*notes, *copies, *few], failures=failures)


def _page(
    study: Study, *, found: StudyBags, copies: Sequence[str], few: Sequence[str], deidentify: bool
) -> Page:
    """What the report says in addition to its numbers."""
    called = f"slide called a class that it {'does not have' if study.config.task.multi_label else 'is not'}"
    if study.config.task.is_binary:
        negative, positive = study.slide_table.classes
        called = f"{negative} slide called {positive}"
    return Page(
        title=f"Study {study.folder.resolve().name}",
        question=(f"How often is a {called}, and does mining the patches that fooled the model lower that?"),
        paths={row.slide_id: row.path for row in study.slide_table.rows},
        mpp={row.slide_id: row.mpp for row in study.slide_table.rows},
        config=study.config,
        exclusions=exclusions_of(found),
        data_notes=copies,
        interval_notes=few,
        study_folder=study.folder,
        deidentified=deidentify,
    )


def run_evaluation(
    evaluation: Evaluation,
    *,
    page: Page,
    command: str,
    started: float,
    device: Device,
    engine: Engine = LOCAL,
    also: Sequence[Arm] = (),
    slide_failures: Sequence[Failure] = (),
    quiet: bool = False,
) -> EvaluationRun:
    """Run the trials that have no row yet, then write statistics, run record and report.

    Args:
        evaluation: What is compared, and the folder to write to.
        page: What the report says in addition to its numbers.
        command: For the run record, as the user would type it.
        started: Seconds since the epoch, for the run record.
        device: Where networks are trained.
        engine: Where trials run.
        also: Further arms; their rows from an earlier call are part of the tables.
        slide_failures: Slides without a bag, to be listed with the trials that failed.
        quiet: No progress bar.

    Raises:
        FoldError: If the folds leak.
        ConfigError: If an arm cannot be run as written.
        JobError: If no trial could be done.
    """
    folder, seed = evaluation.folder, evaluation.seed
    failed = evaluate_arms(evaluation, device=device, engine=engine, quiet=quiet)
    failures = [*slide_failures, *failed]
    log = write_failures(folder, failures)
    rows = valid_rows(evaluation, also=also)
    if failed and not rows.results:
        raise JobError(
            f"none of {len(failed)} trials could be done; first: {failed[0].name}: {failed[0].message}; "
            f"tracebacks of all in {log}"
        )
    statistics = write_statistics(
        folder,
        rows=rows,
        positive=evaluation.classes[1],
        seed=seed,
        margin=page.config.evaluation.sensitivity_margin,
        task=evaluation.task,
    )
    record = page.config.model_dump(mode="json")
    write_run_record(
        folder,
        command,
        config=record,
        seed=seed,
        started=started,
        below=page.study_folder,
        deidentified=page.deidentified,
    )
    report = write_evaluation_report(
        page, evaluation=evaluation, rows=rows, statistics=statistics, failures=failed
    )
    return EvaluationRun(folder, rows, statistics, report, failures=failures, log=log)


def _log_run(tracker: Tracker, *, settings: Mapping[str, object], run: EvaluationRun) -> None:
    """Log settings, the arms' numbers, tables and report; MLflow allows no `@` in a metric's name."""
    tracker.params(settings)
    for one in run.statistics.summary:
        of_class = "" if one.class_name in ("", MACRO) else f"{one.class_name}/"
        for metric, value in one.values.items():
            tracker.metric(f"{one.arm.replace('@', '-at-')}/{of_class}{metric}", value.mean)
    for name in ("results.csv", "summary.csv", "report.html"):
        tracker.artifact(run.folder / name)
