"""One page with a small picture of every slide and its tissue: a person sees a bad one in a minute."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.report.templating import page_environment, write_page


@dataclass(frozen=True)
class SheetSlide:
    """A slide on the sheet: the file of its picture below the page's folder, a line on it, what is wrong."""

    slide_id: str
    picture: str | None
    line: str
    problem: str | None = None


def write_contact_sheet(path: Path, slides: Sequence[SheetSlide], *, title: str) -> None:
    """Write the page; its pictures lie beside it. Slides with a problem come first.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    page = (
        page_environment()
        .get_template("contact_sheet.html.jinja")
        .render(
            title=title,
            slides=sorted(slides, key=lambda slide: slide.problem is None),
            n_problems=sum(slide.problem is not None for slide in slides),
        )
    )
    write_page(path, page)
