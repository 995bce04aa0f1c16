"""One page with the key patches of each slide that was scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.pictures.slide_pictures import SlidePictures
from hardmil.report.templating import page_environment, write_page

MAX_BYTES = 4_000_000
"""Of pictures; slides after that are counted, not shown: a page of hundreds of megabytes opens nowhere."""


@dataclass(frozen=True)
class KeySlide:
    """A slide on the page: what it is called, by what score; `remarks` are warnings and what looks wrong."""

    slide_id: str
    call: str
    bag_score: float
    threshold: float
    label: str
    remarks: Sequence[str]
    pictures: SlidePictures


def write_key_patches(path: Path, slides: Sequence[KeySlide], *, n_slides: int) -> None:
    """Write the page; slides of the highest score come first. Of `n_slides`, the others are counted.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    page = (
        page_environment()
        .get_template("key_patches.html.jinja")
        .render(
            title=f"Key patches of {n_slides} {'slide' if n_slides == 1 else 'slides'}",
            slides=sorted(slides, key=lambda slide: -slide.bag_score),
            n_more=n_slides - len(slides),
        )
    )
    write_page(path, page)
