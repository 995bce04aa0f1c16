"""`hardmil patch STUDY`: tissue and patch coordinates of every slide."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hardmil.commands.slides_outcome import slides_outcome
from hardmil.jobs.outcome import Outcome
from hardmil.preprocessing.patch_coords import tissue_stem
from hardmil.preprocessing.process_slides import DEFAULT_OPTIONS, ProcessedSlides, RunOptions
from hardmil.preprocessing.study_folder import open_study
from hardmil.preprocessing.study_patching import patch_study
from hardmil.report.contact_sheet import SheetSlide, write_contact_sheet
from hardmil.words import count

MAX_NOTES = 10
"""Notes printed; --json has them all."""


def patch(path: Path, *, overrides: Sequence[str] = (), options: RunOptions = DEFAULT_OPTIONS) -> Outcome:
    """Find the patches of every slide, draw a contact sheet, and say how many there are."""
    done = patch_study(open_study(path, overrides=overrides), options=options)
    sheet = done.folder / "contact_sheet.html"
    write_contact_sheet(sheet, _slides(done), title=f"Tissue of {done.study.folder.resolve().name}")
    patches = count(sum(done.patches.values()), "patch")
    return slides_outcome(
        done,
        what=f"{patches} on {count(len(done.patches), 'slide')}",
        lines=[f"contact sheet: {sheet}", *_note_lines(done.notes, study=path)],
        values={"notes": {name: list(some) for name, some in done.notes.items()}},
    )


def _note_lines(notes: Mapping[str, Sequence[str]], *, study: Path) -> list[str]:
    lines = [f"note: {name}: {note}" for name, some in notes.items() for note in some]
    n_left = len(lines) - MAX_NOTES
    more = [f"and {count(n_left, 'note')} more: hardmil doctor {study}"] if n_left > 0 else []
    return lines[:MAX_NOTES] + more


def _slides(done: ProcessedSlides) -> list[SheetSlide]:
    """The slides of the sheet: first those that failed or are empty, then those with fewest patches."""
    why = {failure.name: failure.message for failure in done.failures}
    why |= dict.fromkeys(done.empty, "no patch holds enough tissue")
    slides: list[SheetSlide] = []
    for row in sorted(done.study.slide_table.rows, key=lambda row: done.patches.get(row.slide_id, 0)):
        name, coords = row.slide_id, done.study.coords_path(row.slide_id)
        picture = tissue_stem(coords, slide_id=name).with_name(f"{name}.jpg")
        shown = os.path.relpath(picture, coords.parent) if picture.exists() else None
        line = count(done.patches[name], "patch") if name in done.patches else "no patches extracted"
        slides.append(SheetSlide(name, shown, line, why.get(name)))
    return slides
