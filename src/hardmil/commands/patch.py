"""`hardmil patch STUDY`: tissue and places of the patches of every slide."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hardmil.bags.slide_table import SlideRow
from hardmil.jobs.outcome import Outcome, count
from hardmil.preprocessing.patch_coords import stored_notes, tissue_stem, write_patch_coords
from hardmil.preprocessing.process_slides import (
    RunOptions,
    SlideResult,
    SlidesDone,
    Stage,
    process_slides,
    skip_if_locked,
    slides_outcome,
)
from hardmil.preprocessing.study_folder import Study
from hardmil.report.contact_sheet import SheetSlide, write_contact_sheet

DEFAULT_OPTIONS = RunOptions()
MAX_NOTES = 10
"""Notes printed; --json has them all."""


def patch(path: Path, *, overrides: Sequence[str] = (), options: RunOptions = DEFAULT_OPTIONS) -> Outcome:
    """Write patches/<slide_id>_patches.h5 of each slide that has none under the same knobs.

    Beside them lie the tissue masks and a contact sheet of all slides.

    Raises:
        ConfigError: If the study reads ready-made features.
    """
    done = process_slides(path, Stage("patch", "placing patches", _place), overrides=overrides, options=options)
    folder = done.study.coords_folder
    sheet = folder / "contact_sheet.html"
    write_contact_sheet(sheet, _slides(done), title=f"Tissue of {done.study.folder.resolve().name}")
    outcome = slides_outcome(
        done,
        command="patch",
        folder=folder,
        line=lambda patches, slides: f"{count(patches, 'patch place')} on {count(slides, 'slide')}",
        lines=[f"contact sheet: {sheet}", *_note_lines(done.notes, study=path)],
    )
    notes = {name: list(some) for name, some in done.notes.items()}
    return replace(outcome, values={**outcome.values, "notes": notes})


def _note_lines(notes: Mapping[str, Sequence[str]], *, study: Path) -> list[str]:
    lines = [f"note: {name}: {note}" for name, some in notes.items() for note in some]
    n_left = len(lines) - MAX_NOTES
    return lines[:MAX_NOTES] + (
        [f"and {count(n_left, 'note')} more: hardmil doctor {study}"] if n_left > 0 else []
    )


def _place(study: Study, row: SlideRow) -> SlideResult | None:
    path = study.coords_path(row.slide_id)

    def make() -> SlideResult:
        places = write_patch_coords(row, config=study.config.patches, path=path)
        return SlideResult(len(places.coords), stored_notes(places))

    return skip_if_locked(path, make)


def _slides(done: SlidesDone) -> list[SheetSlide]:
    """The slides of the sheet: first those that failed or are empty, then those with fewest patches."""
    why = {failure.name: failure.message for failure in done.failures}
    why |= dict.fromkeys(done.empty, "no patch holds enough tissue")
    slides: list[SheetSlide] = []
    for row in sorted(done.study.slide_table.rows, key=lambda row: done.patches.get(row.slide_id, 0)):
        name, places = row.slide_id, done.study.coords_path(row.slide_id)
        picture = tissue_stem(places, slide_id=name).with_name(f"{name}.jpg")
        shown = os.path.relpath(picture, places.parent) if picture.exists() else None
        line = count(done.patches[name], "patch place") if name in done.patches else "not cut"
        slides.append(SheetSlide(name, shown, line, why.get(name)))
    return slides
