"""What `patch` and `encode` say of the slides they processed."""

from collections.abc import Mapping, Sequence

from hardmil.jobs.outcome import Outcome
from hardmil.jobs.progress import rate
from hardmil.preprocessing.process_slides import ProcessedSlides
from hardmil.words import count, some_of


def slides_outcome(
    done: ProcessedSlides,
    *,
    what: str,
    lines: Sequence[str] = (),
    values: Mapping[str, object] | None = None,
) -> Outcome:
    """How many slides were processed, how fast, and which are empty.

    Args:
        done: What was done.
        what: The numbers of patches and slides, in words.
        lines: Printed after it.
        values: Added to the values for scripts.
    """
    slides = len(done.patches)
    speed = f" ({rate(slides / done.seconds)})" if slides else ""
    text = [
        *done.remarks,
        f"{what} in {done.folder}{speed}",
        *_empty_lines(done),
        *lines,
    ]
    known: dict[str, object] = {
        "patches": sum(done.patches.values()),
        "slides": slides,
        "empty": done.empty,
        "folder": str(done.folder),
        "seconds": round(done.seconds, 3),
    }
    return Outcome(text, known | dict(values or {}), done.failures, done.log)


def _empty_lines(done: ProcessedSlides) -> list[str]:
    if not done.empty:
        return []
    named = some_of(done.empty, most=5)
    config = done.study.config.patches
    return [
        f"{count(len(done.empty), 'slide')} without a patch of {config.min_tissue:.0%} tissue: {named}; look "
        "at the contact sheet, lower patches.min_tissue or, for single cells, patches.tissue.min_area_um2; "
        "otherwise they go on as empty bags"
    ]
