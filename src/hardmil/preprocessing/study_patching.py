"""Find the patches of every slide of a study."""

from hardmil.bags.slide_table import SlideRow
from hardmil.preprocessing.patch_coords import stored_notes, write_patch_coords
from hardmil.preprocessing.process_slides import (
    DEFAULT_OPTIONS,
    ProcessedSlides,
    RunOptions,
    SlideResult,
    Stage,
    process_slides,
    skip_if_locked,
)
from hardmil.preprocessing.study_folder import Study


def patch_study(study: Study, *, options: RunOptions = DEFAULT_OPTIONS) -> ProcessedSlides:
    """Find the patches of every slide of a study; skips slides that are finished under the same settings.

    Writes patches/<slide_id>_patches.h5, and tissue masks next to them.

    Raises:
        ConfigError: If the study reads ready-made features.
        StoreError: If the disk is full, or the folder is not writable.
    """
    stage = Stage("patch", "finding patches", study.coords_folder, _patch_in_study)
    return process_slides(study, stage, options=options)


def _patch_in_study(study: Study, row: SlideRow) -> SlideResult | None:
    path = study.coords_path(row.slide_id)

    def make() -> SlideResult:
        found = write_patch_coords(row, config=study.config.patches, path=path)
        return SlideResult(len(found.coords), stored_notes(found))

    return skip_if_locked(path, make)
