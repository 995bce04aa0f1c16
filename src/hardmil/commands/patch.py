"""`hardmil patch STUDY`: tissue and places of the patches of every slide."""

import time
from collections.abc import Sequence
from pathlib import Path

from hardmil.bags.cutting import write_places
from hardmil.bags.manifest import SlideRow
from hardmil.commands.outcome import Outcome
from hardmil.commands.study_folder import Study, count, open_study, slide_name
from hardmil.errors import ConfigError
from hardmil.files import write_run_record
from hardmil.jobs import run_jobs, write_failures


def patch(path: Path, *, overrides: Sequence[str] = (), quiet: bool = False) -> Outcome:
    """Write patches/<slide_id>_patches.h5 of each slide that has none under the same knobs.

    Raises:
        ConfigError: If the study reads ready-made features.
    """
    started = time.time()
    study = open_study(path, overrides=overrides)
    refuse_features(study, command="patch")

    def place(row: SlideRow) -> int:
        return write_places(row, config=study.config.patches, path=study.places(row.slide_id))

    done = run_jobs(place, study.manifest.rows, name=slide_name, label="placing patches", quiet=quiet)
    folder = study.folder / "patches"
    log = write_failures(folder, done.failures)
    config = study.config.model_dump(mode="json")
    write_run_record(folder, "hardmil patch", config=config, seed=None, started=started)
    total = sum(done.results.values())
    lines = [f"{count(total, 'patch place')} on {count(len(done.results), 'slide')} in {folder}"]
    values = {"patches": total, "slides": len(done.results), "folder": str(folder)}
    return Outcome(lines, values, done.failures, log)


def refuse_features(study: Study, *, command: str) -> None:
    """Refuse a study that reads features.

    Raises:
        ConfigError: If it does: there is nothing to cut.
    """
    if study.config.features is not None:
        raise ConfigError(
            f"{study.folder}: the study reads features from {study.config.features}, so {command} has "
            "nothing to do; go on with train or evaluate, or set features: null"
        )
