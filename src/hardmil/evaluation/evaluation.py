"""Arms, repeats and folds: run the trials that have no record with the same hash yet."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from threading import Lock

import numpy as np

from hardmil.bags.folds import Fold, check_classes, check_folds
from hardmil.config.study import PIXELS, StudyConfig
from hardmil.config.task import TaskConfig
from hardmil.device import Device
from hardmil.errors import ConfigError, FoldError, StoreError
from hardmil.evaluation.arms import Arm
from hardmil.evaluation.attention_file import write_attention
from hardmil.evaluation.cohort import Cohort
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
)
from hardmil.evaluation.sharing import groups_of, trial_length
from hardmil.evaluation.together import Meeting, population_size
from hardmil.evaluation.trainer import Trainer
from hardmil.evaluation.trial import OperatingSettings, Trial, TrialResult, run_trial
from hardmil.evaluation.trial_records import (
    TRIALS,
    import_tables,
    read_record,
    record_path,
    trial_tables,
    write_record,
    write_tables,
)
from hardmil.files.csv_table import Row, rows_of_cells
from hardmil.files.drafts import remove_drafts
from hardmil.jobs.failures import Failure
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.jobs.progress import progress
from hardmil.jobs.run import attempt
from hardmil.jobs.schedule import run_groups

# A leak, an arm that cannot be run as written, a full disk: these stop all trials, not just one.
FATAL_ERRORS = (FoldError, ConfigError, StoreError)
TABLES_EVERY_S = 30.0
"""How often the tables are made while trials run; at the end in any case."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is compared, and the folder of the tables.

    `folds` is [repeat][fold]; `only_folds` runs some of them. `split` and `patches` are words for the tables:
    how folds were drawn, and how instances were made.
    """

    cohort: Cohort
    folds: Sequence[Sequence[Fold]]
    arms: Sequence[Arm]
    classes: tuple[str, ...]
    folder: Path
    split: str
    patches: str
    seed: int
    only_folds: tuple[int, ...] | None = None
    operating: OperatingSettings | None = None

    @property
    def task(self) -> TaskConfig:
        """What the arms tell apart."""
        return self.arms[0].model.task

    def trials(self) -> list[Trial]:
        """Every trial; the arms of a fold follow one another, because they share its base."""
        return [
            Trial(arm, repeat, number, fold, self._seed(repeat, number), self.operating)
            for repeat, folds in enumerate(self.folds)
            for number, fold in enumerate(folds)
            if self.only_folds is None or number in self.only_folds
            for arm in self.arms
        ]

    def key(self, trial: Trial) -> TrialKey:
        """The columns that identify a trial in the tables."""
        return TrialKey(trial.arm.name, self.split, self.patches, trial.repeat, trial.fold_number)

    def record_path(self, trial: Trial) -> Path:
        """The file with what the trial found."""
        return record_path(self.folder, self.key(trial), config_hash=trial.config_hash(self.cohort))

    def _seed(self, repeat: int, fold: int) -> int:
        return (self.seed * 1000 + repeat) * 1000 + fold


def patches_word(config: StudyConfig) -> str:
    """How instances are made, for the tables: features; or grid or nuclei, with encoder or equalisation."""
    if config.features is not None:
        return "features"
    mode, equalise = config.patches.mode, config.patches.equalise
    if config.encode != PIXELS:
        return f"{mode}-{config.encode}"
    return mode if equalise == "none" else f"{mode}-{equalise}"


def evaluate_arms(
    evaluation: Evaluation, *, device: Device, engine: Engine = LOCAL, quiet: bool = False
) -> list[Failure]:
    """Run the trials that have no record with their hash, and make the tables; the trials that failed.

    A trial is recorded when it ends; several runs may share the folder. Apart from `seconds`, the tables do
    not depend on where trials ran, for the same number of threads.

    Raises:
        FoldError: If a case is on both sides of a fold, a training side lacks a label, anything was
            fitted with a case outside the training fold, or `only_folds` has the number of a fold that does
            not exist.
        ConfigError: If an arm cannot be run as written, or the engine is not available.
        StoreError: If the disk is full, or the folder is not writable.
    """
    _check_only_folds(evaluation)
    for folds in evaluation.folds:
        check_folds(folds, evaluation.cohort.cases)
        labels = evaluation.task.fold_labels(evaluation.cohort.labels)
        check_classes(folds, labels, names=evaluation.task.names)
    remove_drafts(evaluation.folder)
    todo = missing_trials(evaluation)
    size = population_size(evaluation.cohort.bags, device=device, wanted=engine.population)
    if engine.is_here and size > 1:
        failures = _run_together(todo, evaluation=evaluation, device=device, size=size, quiet=quiet)
    elif engine.is_here:
        failures = _run_here(todo, evaluation=evaluation, device=device, quiet=quiet)
    else:
        failures = _run_in_pool(todo, evaluation=evaluation, device=device, engine=engine, quiet=quiet)
    make_tables(evaluation)
    return failures


def missing_trials(evaluation: Evaluation) -> list[Trial]:
    """The trials that have no record with their hash, or a damaged one; first, tables become records."""
    import_tables(evaluation.folder)
    return [trial for trial in evaluation.trials() if read_record(evaluation.record_path(trial)) is None]


def _run_here(todo: Sequence[Trial], *, evaluation: Evaluation, device: Device, quiet: bool) -> list[Failure]:
    """Trial by trial, with one progress bar over the epochs of all."""
    failures: list[Failure] = []
    ends = np.cumsum([trial_length(trial) for trial in todo]).tolist()
    with progress(f"{len(todo)} trials", total=sum(ends[-1:]), quiet=quiet) as steps:
        trainer = Trainer(
            evaluation.folder / TRIALS,
            evaluation.cohort.digest,
            device,
            on_epoch=lambda epoch, loss: steps(),
        )
        run = partial(run_trial, cohort=evaluation.cohort, trainer=trainer)
        for number, (trial, end) in enumerate(zip(todo, ends, strict=True), 1):
            steps.label = f"[{number}/{len(todo)}] {trial.name}"
            outcome = attempt(run, trial, name=trial.name, stops=FATAL_ERRORS)
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                store_result(trial, result=outcome.result, evaluation=evaluation)
            # Trainings that other trials had done took no epochs.
            steps.reach(end)
    return failures


def _run_together(
    todo: Sequence[Trial], *, evaluation: Evaluation, device: Device, size: int, quiet: bool
) -> list[Failure]:
    """Many trials at once in this process; what they train, they train together."""
    failures: dict[int, Failure] = {}
    meeting = Meeting(size=size, device=device, quiet=quiet)
    cohort, storing = evaluation.cohort, Lock()
    trainer = Trainer(evaluation.folder / TRIALS, cohort.digest, device, meeting=meeting)
    run_one = partial(run_trial, cohort=cohort, trainer=trainer)

    def run(numbered: tuple[int, Trial]) -> None:
        number, trial = numbered
        outcome = attempt(run_one, trial, name=trial.name, stops=FATAL_ERRORS)
        with storing:
            if isinstance(outcome, Failure):
                failures[number] = outcome
            else:
                store_result(trial, result=outcome.result, evaluation=evaluation)

    meeting.hold(list(enumerate(todo)), run)
    return [failures[number] for number in sorted(failures)]


@dataclass(frozen=True, eq=False)
class TrialContext:
    """What a worker needs for any trial: bags, folder of trained networks, device."""

    cohort: Cohort
    folder: Path
    device: Device


def run_in_context(context: TrialContext, trial: Trial) -> TrialResult:
    """Run a trial in a worker."""
    trainer = Trainer(context.folder, context.cohort.digest, context.device)
    return run_trial(trial, cohort=context.cohort, trainer=trainer)


def _run_in_pool(
    todo: Sequence[Trial], *, evaluation: Evaluation, device: Device, engine: Engine, quiet: bool
) -> list[Failure]:
    """Trials in parallel; those that share a base wait for the first of them."""
    if engine.kind == "ray" and device.name != "cpu":
        raise ConfigError(
            f"--engine ray: trains only on CPUs, found device {device.name}; add --device cpu, "
            "or use --engine local"
        )
    cohort = evaluation.cohort
    # Resolved: workers of a cluster have their own working folders.
    context = TrialContext(cohort, evaluation.folder.resolve() / TRIALS, device)
    return run_groups(
        run_in_context,
        groups_of(todo),
        shared=context,
        engine=engine,
        name=attrgetter("name"),
        keep=lambda trial, result: store_result(trial, result=result, evaluation=evaluation),
        label=f"{len(todo)} trials",
        stops=FATAL_ERRORS,
        quiet=quiet,
    )


def _check_only_folds(evaluation: Evaluation) -> None:
    n_folds = max(len(folds) for folds in evaluation.folds)
    unknown = [number for number in evaluation.only_folds or () if not 0 <= number < n_folds]
    if unknown:
        raise FoldError(f"fold {unknown[0]}: there are {n_folds} folds; expected 0 to {n_folds - 1}")


def store_result(trial: Trial, *, result: TrialResult, evaluation: Evaluation) -> None:
    """Write attention and record of a finished trial; make the tables if that was not done for a while."""
    folder, config_hash = evaluation.folder, trial.config_hash(evaluation.cohort)
    test = [evaluation.cohort.bags[i] for i in trial.fold.test]
    write_attention(
        folder / TRIALS / config_hash / "attention.h5",
        test,
        scores=result.test_scores,
        class_names=evaluation.task.branch_names,
    )
    tables = trial_tables(
        result,
        trial=evaluation.key(trial),
        config_hash=config_hash,
        test=test,
        classes=evaluation.classes,
        task=evaluation.task,
    )
    write_record(folder, tables)
    table = folder / RESULTS
    if not table.exists() or time.time() - table.stat().st_mtime > TABLES_EVERY_S:
        make_tables(evaluation)


def make_tables(evaluation: Evaluation) -> None:
    """Make the tables from the records in the folder.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    whole = replace(evaluation, only_folds=None)
    hashes = {whole.key(trial): trial.config_hash(whole.cohort) for trial in whole.trials()}
    write_tables(
        evaluation.folder, hashes=hashes, order=hashes, classes=evaluation.classes, task=evaluation.task
    )


@dataclass(frozen=True)
class TrialRows:
    """Rows of the tables that belong together."""

    results: list[ResultRow]
    predictions: list[PredictionRow]
    hard_negatives: list[HardNegativeRow]
    choices: Sequence[ChoiceRow] = ()


def valid_rows(evaluation: Evaluation, *, also: Sequence[Arm] = ()) -> TrialRows:
    """The rows of results, predictions and hard negatives that were made with exactly these settings.

    Args:
        evaluation: The settings.
        also: Further arms; their rows from an earlier call count if they are there.
    """
    arms = {arm.name: arm for arm in (*evaluation.arms, *also)}
    whole = replace(evaluation, arms=tuple(arms.values()), only_folds=None)
    records = [read_record(whole.record_path(trial)) for trial in whole.trials()]
    order = {name: position for position, name in enumerate(arms)}
    found = sorted(
        filter(None, records),
        key=lambda one: (order[one.result.trial.arm], one.result.trial.repeat, one.result.trial.fold),
    )

    def rows(name: str, kind: type[Row]) -> list[Row]:
        return [
            row
            for one in found
            for row in rows_of_cells(one.tables.get(name, ()), kind, path=whole.folder / name)
        ]

    return TrialRows(
        [one.result for one in found],
        rows(PREDICTIONS, PredictionRow),
        rows(HARD_NEGATIVES, HardNegativeRow),
        rows(CHOICES, ChoiceRow),
    )
