"""A page with the key patches of each scored slide."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.pictures.slide_pictures import SlidePictures
from hardmil.report.templating import render_page, write_page

MAX_BYTES = 4_000_000
"""Of pictures. Further slides are only counted: no browser opens a page of hundreds of megabytes."""


@dataclass(frozen=True)
class KeySlide:
    """A slide on the page, with its call and score; `remarks` are warnings and problems.

    With more than two classes there is no single threshold, and attention is that for `shown_class`.
    """

    slide_id: str
    call: str
    bag_score: float
    threshold: float | None
    label: str
    remarks: Sequence[str]
    pictures: SlidePictures
    shown_class: str = ""


def write_key_patches(path: Path, slides: Sequence[KeySlide], *, n_slides: int) -> None:
    """Write the page, highest score first; the remaining ones of `n_slides` are only counted.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    page = render_page(
        "key_patches.html.jinja",
        title=f"Key patches of {n_slides} {'slide' if n_slides == 1 else 'slides'}",
        slides=sorted(slides, key=lambda slide: -slide.bag_score),
        n_more=n_slides - len(slides),
    )
    write_page(path, page)
