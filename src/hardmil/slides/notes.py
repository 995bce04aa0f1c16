"""What a person should know of a slide before using it."""

from hardmil.config.study import PatchConfig
from hardmil.slides.resolution import resolution_notes
from hardmil.slides.slide import Slide

LARGE_PX = 100_000_000
"""A slide of more pixels should have coarser levels, too."""


def slide_notes(slide: Slide, *, mpp: float | None, config: PatchConfig) -> list[str]:
    """What a person should know of a slide though it can be used: in words, maybe none.

    Args:
        slide: An open slide.
        mpp: Micrometres per level-0 px from the table of slides.
        config: How its patches are cut.
    """
    large = pyramid_note(slide)
    return [*resolution_notes(slide.scale, table=mpp, config=config), *([large] if large else [])]


def pyramid_note(slide: Slide) -> str | None:
    """What a person should know of a large slide of one level, in words; None where there is nothing."""
    n_px = slide.width_px * slide.height_px
    if len(slide.levels) > 1 or n_px <= LARGE_PX:
        return None
    return (
        f"it has one level of {slide.width_px} x {slide.height_px} px: finding its tissue decodes all of it, "
        "slowly; make it a pyramid: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg"
    )
