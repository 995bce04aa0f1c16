"""One stage over all slides of a study: in this process or on workers, with failures set aside."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hardmil.bags.slide_table import SlideRow
from hardmil.errors import BusyError, ConfigError, SlideError
from hardmil.files.drafts import remove_drafts
from hardmil.files.locks import holders, locked
from hardmil.files.run_record import write_run_record
from hardmil.jobs.failures import Failure, failure_of, write_failures
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.jobs.progress import LINE_EVERY_S, minutes
from hardmil.jobs.run import Done, JobResults, attempt
from hardmil.jobs.schedule import run_items
from hardmil.preprocessing.annotations import check_annotated_classes
from hardmil.preprocessing.study_folder import Study, slide_name
from hardmil.slides.reader import open_source
from hardmil.words import count, some_of

POLL_S = 2.0
"""How long to wait before looking again at a slide that another run works on."""
MAX_MINUTES = 60.0
MAX_BATCH = 16
"""Slides that a worker takes at once where they share batches: enough biopsies to fill a batch of 256."""
JOBS_PER_WORKER = 4
"""At least as many batches of slides for each worker: one large slide must not leave the others idle."""


@dataclass(frozen=True)
class RunOptions:
    """How slides are processed: where, with which time limit for each, and whether with a progress bar."""

    engine: Engine = LOCAL
    max_minutes: float = MAX_MINUTES
    quiet: bool = False

    @property
    def limit_s(self) -> float | None:
        """Seconds a slide may take; None: no limit."""
        return 60 * self.max_minutes or None


DEFAULT_OPTIONS = RunOptions()


@dataclass(frozen=True)
class SlideResult:
    """The number of patches of a slide, and notes for the user."""

    n_patches: int
    notes: Sequence[str] = ()


BatchFunction = Callable[[Study, Sequence[SlideRow], RunOptions], JobResults[SlideResult | None]]


@dataclass(frozen=True)
class Stage:
    """What is done with each slide, and the folder the results are in.

    `make` gives None where another run works on the slide. `batch`, where given, takes many slides at once,
    because they share the batches of an encoder, and applies the time limit itself. Both must be functions of
    a module, so that another process can import them.
    """

    command: str
    label: str
    folder: Path
    make: Callable[[Study, SlideRow], SlideResult | None]
    batch: BatchFunction | None = None


@dataclass(frozen=True)
class ProcessedSlides:
    """The number of patches of each slide that was processed, and the slides that failed.

    `notes` are about slides, `remarks` about all of them; `log` holds the tracebacks of the failures.
    """

    study: Study
    folder: Path
    patches: Mapping[str, int]
    notes: Mapping[str, Sequence[str]]
    failures: Sequence[Failure]
    log: Path | None
    seconds: float
    remarks: Sequence[str] = ()

    @property
    def empty(self) -> list[str]:
        """Slides without a patch."""
        return [slide_id for slide_id, n in self.patches.items() if n == 0]


def process_slides(study: Study, stage: Stage, *, options: RunOptions) -> ProcessedSlides:
    """Process every slide of a study; write failures and run record to the stage's folder.

    Several runs may share the study: a slide that another run works on is left to it, and waited for at the
    end.

    Raises:
        ConfigError: If the study reads ready-made features: there is nothing to process; or if a setting
            names a class that no annotation has.
        StoreError: If the disk is full, or the folder is not writable.
    """
    started = time.time()
    _refuse_features(study, command=stage.command)
    check_annotated_classes(study)
    remove_drafts(stage.folder)
    made: dict[str, SlideResult] = {}
    # Within the time limit too: a disk may not answer at all.
    looked = attempt(partial(_missing, study), stage, name="missing files", limit_s=options.limit_s)
    failures = looked.result if isinstance(looked, Done) else []
    missing = {failure.name for failure in failures}
    todo = [row for row in study.slide_table.rows if row.slide_id not in missing]
    wait = Waiting(stage.folder, quiet=options.quiet)
    while todo:
        done = _process_once(study, stage, todo, options=options)
        failures += done.failures
        made |= {slide_id: one for slide_id, one in done.results.items() if one is not None}
        todo = [row for row in todo if row.slide_id in done.results and row.slide_id not in made]
        if todo:
            wait.for_a_moment([row.slide_id for row in todo])
    order = {row.slide_id: position for position, row in enumerate(study.slide_table.rows)}
    failures.sort(key=lambda failure: order[failure.name])
    in_order = {slide_id: made[slide_id] for slide_id in order if slide_id in made}
    log = write_failures(stage.folder, failures)
    config = study.config.model_dump(mode="json")
    write_run_record(
        stage.folder,
        f"hardmil {stage.command}",
        config=config,
        seed=None,
        started=started,
        below=study.folder,
    )
    return ProcessedSlides(
        study=study,
        folder=stage.folder,
        patches={slide_id: one.n_patches for slide_id, one in in_order.items()},
        notes={slide_id: one.notes for slide_id, one in in_order.items() if one.notes},
        failures=failures,
        log=log,
        seconds=time.time() - started,
    )


def _missing(study: Study, stage: Stage) -> list[Failure]:
    """The slides whose file is missing and of which nothing was made: known at once, however many."""
    found: list[Failure] = []
    for row in study.slide_table.rows:
        made = (study.coords_path(row.slide_id), stage.folder / f"{row.slide_id}.h5")
        if row.path is None or os.path.exists(row.path) or any(map(os.path.exists, made)):
            continue
        try:
            open_source(row.path)
        except SlideError as error:
            found.append(failure_of(row.slide_id, error))
    return found


@dataclass
class Waiting:
    """Waits for slides that other runs work on, and says so on stderr each minute."""

    folder: Path
    quiet: bool
    begun: float | None = None
    n_told: int = 0

    def for_a_moment(self, slides: Sequence[str]) -> None:
        """Wait `POLL_S` seconds."""
        now = time.monotonic()
        self.begun = now if self.begun is None else self.begun
        if not self.quiet and now - self.begun >= self.n_told * LINE_EVERY_S:
            self.n_told += 1
            print(waiting_line(slides, folder=self.folder, seconds=now - self.begun), file=sys.stderr)
        time.sleep(POLL_S)


def waiting_line(slides: Sequence[str], *, folder: Path, seconds: float) -> str:
    """What a run waits for, and for how long."""
    by = ", ".join(holders(folder)) or "has just ended"
    waited = "" if seconds < LINE_EVERY_S else f", for {minutes(seconds)} now"
    what = f"{count(len(slides), 'slide')} that another run works on ({by})"
    return f"waiting for {what}{waited}: {some_of(slides)}"


def skip_if_locked(path: Path, make: Callable[[], SlideResult]) -> SlideResult | None:
    """What `make` gives, unless another run works on the file at `path`: None then."""
    try:
        with locked(path):
            return make()
    except BusyError:
        return None


def _process_once(
    study: Study, stage: Stage, rows: Sequence[SlideRow], *, options: RunOptions
) -> JobResults[SlideResult | None]:
    if stage.batch is not None:
        if options.engine.is_here:
            return stage.batch(study, rows, options)
        size = max(1, min(MAX_BATCH, len(rows) // (JOBS_PER_WORKER * options.engine.workers)))
        return _in_batches(study, stage.batch, rows, label=stage.label, size=size, options=options)
    return run_items(
        _make,
        rows,
        shared=(study, stage.make),
        engine=options.engine,
        name=slide_name,
        label=stage.label,
        limit_s=options.limit_s,
        quiet=options.quiet,
    )


def _make(
    shared: tuple[Study, Callable[[Study, SlideRow], SlideResult | None]], row: SlideRow
) -> SlideResult | None:
    study, make = shared
    return make(study, row)


def _in_batches(
    study: Study,
    batch: BatchFunction,
    rows: Sequence[SlideRow],
    *,
    label: str,
    size: int,
    options: RunOptions,
) -> JobResults[SlideResult | None]:
    """The same on workers, some slides for each job.

    A batch that kills its worker is processed again slide by slide: slides that it finished are skipped, and
    the slide that kills the worker is named.
    """
    done = run_items(
        _make_batch,
        [tuple(rows[start : start + size]) for start in range(0, len(rows), size)],
        shared=(study, batch, options),
        engine=options.engine,
        name=_first_name,
        label=label if size == 1 else f"{label}, {size} slides at once",
        quiet=options.quiet,
    )
    results: dict[str, SlideResult | None] = {}
    failures: list[Failure] = []
    for some in done.results.values():
        results |= some.results
        failures += some.failures
    if size == 1:
        return JobResults(results, [*failures, *done.failures])
    settled = {*results, *(failure.name for failure in failures)}
    left = [row for row in rows if row.slide_id not in settled]
    alone = (
        _in_batches(study, batch, left, label=label, size=1, options=options)
        if left
        else JobResults[SlideResult | None]()
    )
    return JobResults(results | alone.results, [*failures, *alone.failures])


def _make_batch(
    shared: tuple[Study, BatchFunction, RunOptions], rows: tuple[SlideRow, ...]
) -> JobResults[SlideResult | None]:
    study, batch, options = shared
    return batch(study, rows, replace(options, quiet=True))


def _first_name(rows: Sequence[SlideRow]) -> str:
    return rows[0].slide_id


def _refuse_features(study: Study, *, command: str) -> None:
    if study.config.features is not None:
        raise ConfigError(
            f"{study.folder}: the study reads features from {study.config.features}, so {command} has "
            "nothing to do; go on with train or evaluate, or set features: null"
        )
