"""Notes for the user on a slide that can be used."""

from hardmil.config.patches import PatchConfig
from hardmil.slides.resolution import resolution_notes
from hardmil.slides.slide import Slide

FEW_PATCHES = 4
"""A slide with at most as many patches is worth a look: it is tiny, or its tissue was missed."""
LARGE_PX = 100_000_000
"""A slide with more pixels should have coarser levels."""


def slide_notes(slide: Slide, *, mpp: float | None, config: PatchConfig) -> list[str]:
    """Notes for the user on a slide that can be used; often empty.

    Args:
        slide: An open slide.
        mpp: Micrometres per level-0 px from the table of slides.
        config: How its patches are placed.
    """
    large = _pyramid_note(slide)
    return [
        *slide.notes,
        *resolution_notes(slide.scale, table=mpp, config=config),
        *([large] if large else []),
    ]


def few_patches_note(n_patches: int, *, config: PatchConfig) -> list[str]:
    """A note on a slide with few patches; none is for the caller to report."""
    if not 0 < n_patches <= FEW_PATCHES:
        return []
    return [
        f"patches with {config.min_tissue:.0%} tissue: only {n_patches}; look at it in the contact sheet of "
        "hardmil patch; if tissue is missed, lower patches.min_tissue"
    ]


def _pyramid_note(slide: Slide) -> str | None:
    """A note for the user if the slide is large and has only one level; else None."""
    n_px = slide.width_px * slide.height_px
    if len(slide.levels) > 1 or n_px <= LARGE_PX:
        return None
    return (
        f"it has only one level, of {slide.width_px} x {slide.height_px} px: finding its tissue decodes all "
        "of it, slowly; convert it to a pyramid: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg"
    )
