"""The frame of patch and encode: one function over all slides, failures set aside, a run record."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hardmil.bags.manifest import SlideRow
from hardmil.commands.outcome import Outcome
from hardmil.commands.study_folder import Study, open_study, slide_name
from hardmil.errors import ConfigError
from hardmil.files import write_run_record
from hardmil.jobs import JobResults, run_jobs, write_failures


def over_slides(
    path: Path,
    cut: Callable[[Study, SlideRow], int],
    *,
    command: str,
    label: str,
    folder_of: Callable[[Study], Path],
    line: Callable[[int, int], str],
    overrides: Sequence[str],
    quiet: bool,
    together: Callable[[Study, Sequence[SlideRow], bool], JobResults[int]] | None = None,
) -> Outcome:
    """Cut every slide of a study; what came of it.

    Args:
        path: The study.
        cut: Writes the file of one slide and gives its number of patches.
        command: patch or encode.
        label: Beside the progress bar.
        folder_of: Where the files go.
        line: What to print of the numbers of patches and slides.
        overrides: Of the study's knobs.
        quiet: No progress bar.
        together: Works through the slides in the place of `cut`, where they share something: an encoder's
            batches.

    Raises:
        ConfigError: If the study reads ready-made features: there is nothing to cut.
    """
    started = time.time()
    study = open_study(path, overrides=overrides)
    _refuse_features(study, command=command)
    folder = folder_of(study)
    rows = study.manifest.rows
    if together is not None:
        done = together(study, rows, quiet)
    else:
        done = run_jobs(lambda row: cut(study, row), rows, name=slide_name, label=label, quiet=quiet)
    log = write_failures(folder, done.failures)
    config = study.config.model_dump(mode="json")
    write_run_record(folder, f"hardmil {command}", config=config, seed=None, started=started)
    patches, slides = sum(done.results.values()), len(done.results)
    values = {"patches": patches, "slides": slides, "folder": str(folder)}
    return Outcome([f"{line(patches, slides)} in {folder}"], values, done.failures, log)


def _refuse_features(study: Study, *, command: str) -> None:
    if study.config.features is not None:
        raise ConfigError(
            f"{study.folder}: the study reads features from {study.config.features}, so {command} has "
            "nothing to do; go on with train or evaluate, or set features: null"
        )
