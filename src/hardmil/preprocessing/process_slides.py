"""The frame of patch and encode: one function over all slides, here or on workers, failures set aside."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardmil.bags.slide_table import SlideRow
from hardmil.errors import BusyError, ConfigError
from hardmil.files.claims import claim
from hardmil.files.run_record import write_run_record
from hardmil.jobs.failures import Failure, write_failures
from hardmil.jobs.outcome import Outcome, count
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.jobs.progress import rate
from hardmil.jobs.run import JobResults
from hardmil.jobs.schedule import run_items
from hardmil.preprocessing.study_folder import Study, open_study, slide_name

POLL_S = 2.0
"""How long to wait before a slide that another run works on is looked at again."""
MAX_MINUTES = 60.0
NAMED = 5
"""Slides named in a line; the rest is counted."""
MAX_TOGETHER = 16
"""Slides that a worker takes at once where they share batches: enough to fill one of 256 with biopsies."""
JOBS_PER_WORKER = 4
"""Fewer, so that each worker has as many turns: one large slide must not leave the others idle."""


@dataclass(frozen=True)
class RunOptions:
    """How a command goes over its slides: where, for how long at most, and whether it shows a bar."""

    engine: Engine = LOCAL
    max_minutes: float = MAX_MINUTES
    quiet: bool = False

    @property
    def limit_s(self) -> float | None:
        """Seconds a slide may take; None for ever."""
        return 60 * self.max_minutes or None


@dataclass(frozen=True)
class SlideResult:
    """Patches of a slide, and what a person should know of it."""

    n_patches: int
    notes: Sequence[str] = ()


BatchFunction = Callable[[Study, Sequence[SlideRow], RunOptions], JobResults[SlideResult | None]]


@dataclass(frozen=True)
class Stage:
    """What is done with a slide.

    `make` gives None where another run works on the slide. `together` does many slides in its place where
    they share something, an encoder's batches, and minds how long each may take. Both are known by their
    module's name, so that another process can find them.
    """

    command: str
    label: str
    make: Callable[[Study, SlideRow], SlideResult | None]
    together: BatchFunction | None = None


@dataclass(frozen=True)
class SlidesDone:
    """Patches of each slide that was done, and the slides that were not."""

    study: Study
    patches: Mapping[str, int]
    notes: Mapping[str, Sequence[str]]
    failures: Sequence[Failure]
    seconds: float

    @property
    def empty(self) -> list[str]:
        """Slides without a patch."""
        return [slide_id for slide_id, n in self.patches.items() if n == 0]


def process_slides(path: Path, stage: Stage, *, overrides: Sequence[str], options: RunOptions) -> SlidesDone:
    """Cut every slide of a study.

    Several runs may share the study: a slide that another works on is left to it, and waited for at the end.

    Raises:
        ConfigError: If the study reads ready-made features: there is nothing to cut.
        StoreError: If the disk is full, or the folder may not be written.
    """
    started = time.time()
    study = open_study(path, overrides=overrides)
    _refuse_features(study, command=stage.command)
    made: dict[str, SlideResult] = {}
    failures: list[Failure] = []
    todo = list(study.slide_table.rows)
    while todo:
        done = _once(study, stage, todo, options=options)
        failures += done.failures
        made |= {slide_id: one for slide_id, one in done.results.items() if one is not None}
        todo = [row for row in todo if row.slide_id in done.results and row.slide_id not in made]
        if todo:
            time.sleep(POLL_S)
    order = {row.slide_id: position for position, row in enumerate(study.slide_table.rows)}
    failures.sort(key=lambda failure: order[failure.name])
    in_order = {slide_id: made[slide_id] for slide_id in order if slide_id in made}
    patches = {slide_id: one.n_patches for slide_id, one in in_order.items()}
    notes = {slide_id: one.notes for slide_id, one in in_order.items() if one.notes}
    return SlidesDone(study, patches, notes, failures, time.time() - started)


def slides_outcome(
    done: SlidesDone,
    *,
    command: str,
    folder: Path,
    line: Callable[[int, int], str],
    lines: Sequence[str] = (),
) -> Outcome:
    """Write the failures and the run record of what was done; what to say of it.

    Args:
        done: What was done.
        command: patch or encode.
        folder: Where the files are.
        line: What to print of the numbers of patches and slides.
        lines: Printed after it.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    log = write_failures(folder, list(done.failures))
    config = done.study.config.model_dump(mode="json")
    started = time.time() - done.seconds
    write_run_record(folder, f"hardmil {command}", config=config, seed=None, started=started)
    patches, slides = sum(done.patches.values()), len(done.patches)
    speed = rate(slides / done.seconds)
    values = {
        "patches": patches,
        "slides": slides,
        "empty": done.empty,
        "folder": str(folder),
        "seconds": round(done.seconds, 3),
    }
    said = [f"{line(patches, slides)} in {folder} ({speed})", *_of_empty(done), *lines]
    return Outcome(said, values, done.failures, log)


def _of_empty(done: SlidesDone) -> list[str]:
    if not done.empty:
        return []
    named = ", ".join(done.empty[:NAMED]) + (", ..." if len(done.empty) > NAMED else "")
    config = done.study.config.patches
    return [
        f"{count(len(done.empty), 'slide')} without a patch of {config.min_tissue:.0%} tissue: {named}; look "
        "at the contact sheet, lower patches.min_tissue or, for single cells, patches.tissue.min_area_um2; "
        "left so, they go on as empty bags"
    ]


def skip_if_locked(path: Path, make: Callable[[], SlideResult]) -> SlideResult | None:
    """What `make` gives while no other run works on the file at `path`; None where one does."""
    try:
        with claim(path):
            return make()
    except BusyError:
        return None


def _once(
    study: Study, stage: Stage, rows: Sequence[SlideRow], *, options: RunOptions
) -> JobResults[SlideResult | None]:
    if stage.together is not None:
        if options.engine.is_here:
            return stage.together(study, rows, options)
        size = max(1, min(MAX_TOGETHER, len(rows) // (JOBS_PER_WORKER * options.engine.workers)))
        return _in_groups(study, stage.together, rows, label=stage.label, size=size, options=options)
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


def _in_groups(
    study: Study,
    together: BatchFunction,
    rows: Sequence[SlideRow],
    *,
    label: str,
    size: int,
    options: RunOptions,
) -> JobResults[SlideResult | None]:
    """The same on workers, some slides a job.

    A group that ends its worker is done again slide by slide: what it finished is found finished, and the
    slide that does it is named.
    """
    done = run_items(
        _make_batch,
        [tuple(rows[start : start + size]) for start in range(0, len(rows), size)],
        shared=(study, together, options),
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
        _in_groups(study, together, left, label=label, size=1, options=options)
        if left
        else JobResults[SlideResult | None]()
    )
    return JobResults(results | alone.results, [*failures, *alone.failures])


def _make_batch(
    shared: tuple[Study, BatchFunction, RunOptions], rows: tuple[SlideRow, ...]
) -> JobResults[SlideResult | None]:
    study, together, options = shared
    return together(study, rows, replace(options, quiet=True))


def _first_name(rows: Sequence[SlideRow]) -> str:
    return rows[0].slide_id


def _refuse_features(study: Study, *, command: str) -> None:
    if study.config.features is not None:
        raise ConfigError(
            f"{study.folder}: the study reads features from {study.config.features}, so {command} has "
            "nothing to do; go on with train or evaluate, or set features: null"
        )
