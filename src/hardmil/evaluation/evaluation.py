"""Arms x repeats x folds: run what is not there yet under the same hash, row by row."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

from hardmil.bags.folds import Fold, check_folds
from hardmil.config.study import PIXELS, StudyConfig
from hardmil.device import Device
from hardmil.errors import ConfigError, FoldError, StoreError
from hardmil.evaluation.arms import Arm
from hardmil.evaluation.attention_file import write_attention
from hardmil.evaluation.cohort import Cohort
from hardmil.evaluation.results import (
    HARD_NEGATIVES,
    RESULTS,
    hard_negative_rows,
    prediction_columns,
    prediction_row,
    replace_rows,
    trial_name,
)
from hardmil.evaluation.sharing import groups_of, trial_length
from hardmil.evaluation.trainer import Trainer
from hardmil.evaluation.trial import OperatingSettings, Trial, TrialResult, run_trial
from hardmil.files.csv_table import Row, read_rows, write_rows
from hardmil.jobs.failures import Failure
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.jobs.progress import progress
from hardmil.jobs.run import attempt
from hardmil.jobs.schedule import run_groups

# A leak, an arm that cannot be run as written, a full disk: no failure of one trial alone.
FATAL_ERRORS = (FoldError, ConfigError, StoreError)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that is to be compared, and where the tables go.

    `folds` is [repeat][fold]; `only_folds` runs some of them. `split` and `patches` are words for the
    tables: how the folds were drawn, how patches were cut.
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

    def trials(self) -> list[Trial]:
        """Every trial, all arms of a fold one after the other: they share its base."""
        return [
            Trial(arm, repeat, number, fold, self._seed(repeat, number), self.operating)
            for repeat, folds in enumerate(self.folds)
            for number, fold in enumerate(folds)
            if self.only_folds is None or number in self.only_folds
            for arm in self.arms
        ]

    def identity(self, trial: Trial) -> dict[str, object]:
        """The columns that say which trial it is."""
        return {
            "arm": trial.arm.name,
            "split": self.split,
            "patches": self.patches,
            "repeat": trial.repeat,
            "fold": trial.fold_number,
        }

    def _seed(self, repeat: int, fold: int) -> int:
        return (self.seed * 1000 + repeat) * 1000 + fold


def patches_word(config: StudyConfig) -> str:
    """What the tables call a way of making instances: features, grid, nuclei, an encoder after it."""
    if config.features is not None:
        return "features"
    return config.patches.mode if config.encode == PIXELS else f"{config.patches.mode}-{config.encode}"


def evaluate_arms(
    evaluation: Evaluation, *, device: Device, engine: Engine = LOCAL, quiet: bool = False
) -> list[Failure]:
    """The trials that failed; of every other without a row under its hash, rows are put into the tables.

    Rows are put there as each trial ends, by this process alone, and end in the evaluation's order: the
    tables are the same (but for `seconds`) wherever the trials ran, with equal numbers of threads.

    Raises:
        FoldError: If a case is on both sides of a fold, anything was fitted with a case outside the training,
            or `only_folds` names a fold that is not there.
        ConfigError: If an arm cannot be run as written, or the engine cannot be had.
        StoreError: If the folder takes no more files.
    """
    _check_only_folds(evaluation)
    for folds in evaluation.folds:
        check_folds(folds, evaluation.cohort.cases)
    rows = {trial_name(row): row for row in read_rows(evaluation.folder / "results.csv")}
    todo = [trial for trial in evaluation.trials() if not _is_done(trial, evaluation, rows)]
    if engine.is_here:
        failures = _run_here(todo, evaluation=evaluation, device=device, quiet=quiet)
    else:
        failures = _run_in_pool(todo, evaluation=evaluation, device=device, engine=engine, quiet=quiet)
    _sort_tables(evaluation)
    return failures


def _run_here(todo: Sequence[Trial], *, evaluation: Evaluation, device: Device, quiet: bool) -> list[Failure]:
    """Trial after trial, each with its own bar over epochs."""
    kind = evaluation.cohort.bags[0].kind
    failures: list[Failure] = []
    for number, trial in enumerate(todo, 1):
        label = f"[{number}/{len(todo)}] {trial.name}"
        with progress(label, total=trial_length(trial, kind=kind), quiet=quiet) as step:
            trainer = Trainer(
                evaluation.folder / "trials",
                evaluation.cohort.digest,
                device,
                on_epoch=lambda epoch, loss, step=step: step(),
            )
            run = partial(run_trial, cohort=evaluation.cohort, trainer=trainer)
            outcome = attempt(run, trial, name=trial.name, stops=FATAL_ERRORS)
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            keep(trial, result=outcome.result, evaluation=evaluation)
    return failures


@dataclass(frozen=True, eq=False)
class TrialContext:
    """What a worker needs for any trial: the bags, the folder of trained networks, the device."""

    cohort: Cohort
    folder: Path
    device: Device


def run_in_context(bench: TrialContext, trial: Trial) -> TrialResult:
    """A trial, in a worker."""
    trainer = Trainer(bench.folder, bench.cohort.digest, bench.device)
    return run_trial(trial, cohort=bench.cohort, trainer=trainer)


def _run_in_pool(
    todo: Sequence[Trial], *, evaluation: Evaluation, device: Device, engine: Engine, quiet: bool
) -> list[Failure]:
    """Trials side by side; those that share a base wait for the first of them."""
    if engine.kind == "ray" and device.name != "cpu":
        raise ConfigError(
            f"--engine ray: trains on the CPUs of its workers, found device {device.name}; add --device cpu, "
            "or use --engine local"
        )
    cohort = evaluation.cohort
    # Resolved: a worker of a cluster has a working folder of its own.
    bench = TrialContext(cohort, evaluation.folder.resolve() / "trials", device)
    return run_groups(
        run_in_context,
        groups_of(todo, kind=cohort.bags[0].kind),
        shared=bench,
        engine=engine,
        name=attrgetter("name"),
        keep=lambda trial, result: keep(trial, result=result, evaluation=evaluation),
        label=f"{len(todo)} trials",
        stops=FATAL_ERRORS,
        quiet=quiet,
    )


def _check_only_folds(evaluation: Evaluation) -> None:
    n_folds = max(len(folds) for folds in evaluation.folds)
    unknown = [number for number in evaluation.only_folds or () if not 0 <= number < n_folds]
    if unknown:
        raise FoldError(f"fold {unknown[0]}: there are {n_folds} folds, expected 0 to {n_folds - 1}")


def keep(trial: Trial, *, result: TrialResult, evaluation: Evaluation) -> None:
    """Put a finished trial into the tables; its row of results last."""
    identity = evaluation.identity(trial)
    config_hash = trial.config_hash(evaluation.cohort)
    test = [evaluation.cohort.bags[i] for i in trial.fold.test]
    folder = evaluation.folder
    # First, so that a row of results never vouches for rows of which a killed run replaced half.
    replace_rows(folder / "results.csv", [], trial=identity, columns=RESULTS)
    write_attention(folder / "trials" / config_hash / "attention.h5", test, scores=result.test_scores)
    mined = hard_negative_rows(result.hard_negatives)
    replace_rows(folder / "hard_negatives.csv", mined, trial=identity, columns=HARD_NEGATIVES)
    chances: Sequence[float | None] = [None] * len(test)
    if result.probabilities is not None:
        chances = result.probabilities.tolist()
    predictions = [
        prediction_row(
            bag,
            score.bag_score,
            classes=evaluation.classes,
            op_threshold=result.op_threshold,
            probability=chance,
        )
        for bag, score, chance in zip(test, result.test_scores, chances, strict=True)
    ]
    columns = prediction_columns(evaluation.classes)
    replace_rows(folder / "predictions.csv", predictions, trial=identity, columns=columns)
    row: dict[str, object] = {
        "config_hash": config_hash,
        "n_false_positive_bags": result.n_false_positive_bags,
        "n_hard": len(result.hard_negatives),
        "op_threshold": result.op_threshold,
        "instance_auc": result.instance_auc,
        "mined_look_alikes": result.mined_look_alikes,
        "seconds": result.seconds,
        **asdict(result.metrics),
    }
    replace_rows(folder / "results.csv", [row], trial=identity, columns=RESULTS)


def _sort_tables(evaluation: Evaluation) -> None:
    """Put the rows of each table into the order of the trials, after those of other trials as they lie."""
    whole = replace(evaluation, only_folds=None)
    names = [trial_name(evaluation.identity(trial)) for trial in whole.trials()]
    place = {name: position for position, name in enumerate(names)}
    columns = {
        "results.csv": RESULTS,
        "predictions.csv": prediction_columns(evaluation.classes),
        "hard_negatives.csv": HARD_NEGATIVES,
    }
    for name, of_table in columns.items():
        rows = read_rows(evaluation.folder / name)
        in_order = sorted(rows, key=lambda row: place.get(trial_name(row), -1))
        if in_order != rows:
            write_rows(evaluation.folder / name, in_order, columns=of_table)


@dataclass(frozen=True)
class TrialRows:
    """Rows of the tables that belong together."""

    results: list[Row]
    predictions: list[Row]
    hard_negatives: list[Row]


def valid_rows(evaluation: Evaluation, *, also: Sequence[Arm] = ()) -> TrialRows:
    """Rows of results, predictions and hard negatives made under just this setting.

    Args:
        evaluation: The setting.
        also: Further arms whose rows count if they are there, from an earlier call.
    """
    arms = {arm.name: arm for arm in (*evaluation.arms, *also)}
    whole = replace(evaluation, arms=tuple(arms.values()), only_folds=None)
    hashes = {trial_name(whole.identity(t)): t.config_hash(whole.cohort) for t in whole.trials()}
    folder = evaluation.folder
    results = [
        row for row in read_rows(folder / "results.csv") if hashes.get(trial_name(row)) == row["config_hash"]
    ]
    order = {name: position for position, name in enumerate(arms)}
    results.sort(key=lambda row: (order[row["arm"]], int(row["repeat"]), int(row["fold"])))
    names = {trial_name(row) for row in results}
    predictions = [row for row in read_rows(folder / "predictions.csv") if trial_name(row) in names]
    mined = [row for row in read_rows(folder / "hard_negatives.csv") if trial_name(row) in names]
    return TrialRows(results, predictions, mined)


def _is_done(trial: Trial, evaluation: Evaluation, rows: dict[tuple[str, ...], Row]) -> bool:
    row = rows.get(trial_name(evaluation.identity(trial)))
    return row is not None and row["config_hash"] == trial.config_hash(evaluation.cohort)
