"""A page with a small picture of every slide and its tissue, to find slides with problems quickly."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.report.templating import render_page, write_page


@dataclass(frozen=True)
class SheetSlide:
    """A slide on the sheet: its picture, relative to the folder of the page; a line of text; the problem."""

    slide_id: str
    picture: str | None
    line: str
    problem: str | None = None


def write_contact_sheet(path: Path, slides: Sequence[SheetSlide], *, title: str) -> None:
    """Write the page; its pictures stay in separate files. Slides with a problem come first.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    page = render_page(
        "contact_sheet.html.jinja",
        title=title,
        slides=sorted(slides, key=lambda slide: slide.problem is None),
        n_problems=sum(slide.problem is not None for slide in slides),
    )
    write_page(path, page)
