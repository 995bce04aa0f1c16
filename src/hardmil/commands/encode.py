"""`hardmil encode STUDY`: the pixels of every patch, one bag file a slide."""

import time
from collections.abc import Sequence
from pathlib import Path

from hardmil.bags.cutting import write_pixels
from hardmil.bags.manifest import SlideRow
from hardmil.commands.outcome import Outcome
from hardmil.commands.patch import refuse_features
from hardmil.commands.study_folder import count, open_study, slide_name
from hardmil.files import write_run_record
from hardmil.jobs import run_jobs, write_failures


def encode(path: Path, *, overrides: Sequence[str] = (), quiet: bool = False) -> Outcome:
    """Write features_pixels/<slide_id>.h5 of each slide that has none under the same knobs.

    Raises:
        ConfigError: If the study reads ready-made features.
    """
    started = time.time()
    study = open_study(path, overrides=overrides)
    refuse_features(study, command="encode")

    def read(row: SlideRow) -> int:
        places, pixels = study.places(row.slide_id), study.pixels(row.slide_id)
        return write_pixels(row, config=study.config.patches, places=places, path=pixels)

    done = run_jobs(read, study.manifest.rows, name=slide_name, label="reading patches", quiet=quiet)
    folder = study.pixels("any").parent
    log = write_failures(folder, done.failures)
    config = study.config.model_dump(mode="json")
    write_run_record(folder, "hardmil encode", config=config, seed=None, started=started)
    total = sum(done.results.values())
    lines = [f"{count(len(done.results), 'bag')} of {total} patches in {folder}"]
    values = {"patches": total, "slides": len(done.results), "folder": str(folder)}
    return Outcome(lines, values, done.failures, log)
