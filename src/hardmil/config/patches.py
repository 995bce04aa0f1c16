"""What a patch is: where tissue is looked for, where patches are cut, and what is done to their colours.

The first of the knobs, in a file of their own; `config.py` has the others.
"""

from typing import Literal

from pydantic import Field, model_validator

from hardmil.config.section import Section


class TissueConfig(Section):
    """What of a slide counts as tissue, beyond Otsu's threshold. Sizes are micrometres on the slide."""

    um_per_px: float = Field(default=8.0, gt=0)
    """Resolution of the thumbnail that tissue is found on. A slide of at most 2,048 px is taken as it is; one
    of unknown mpp on a thumbnail of that edge, and then areas below are not known either and do nothing."""
    min_area_um2: float = Field(default=2500.0, ge=0)
    """Smallest piece of tissue; less is dust. 2,500 is a square of 50 um."""
    max_hole_um2: float = Field(default=2500.0, ge=0)
    """Largest hole that is filled: a pale lumen or a crack; a larger one is glass."""
    drop_pen: bool = False
    """Whether green, blue and black pen marks are no tissue."""
    drop_blurred: bool = False
    """Whether what is out of focus, by about 2 um and more, is no tissue. Reads the tissue at 1 um/px."""
    keep: tuple[str, ...] = ()
    """Names of annotated areas outside of which nothing is tissue (column `annotations` of the slides:
    GeoJSON, as QuPath exports it), or "*" for any. Empty: all of the slide."""
    drop: tuple[str, ...] = ()
    """Names of annotated areas that are no tissue, or "*" for any."""


class PatchConfig(Section):
    """Where patches are cut, and what is done to their colours."""

    mode: Literal["grid", "nuclei"] = "grid"
    """grid: squares side by side, remainder dropped; nuclei: centred on annotated nuclei (reproduce)."""
    size_px: int = Field(default=32, ge=8, le=1024)
    """Edge of a patch, in pixels of the resolution below. Left out: 32 for pixels (the paper's network takes
    24 to 48), 224 for an encoder."""
    overlap_px: int = Field(default=0, ge=0)
    """How far a patch reaches into the next, in pixels of the resolution below; 0 as in the paper."""
    um_per_px: float | None = Field(default=0.5, gt=0)
    """Resolution, micrometres per pixel; null takes level-0 pixels as they are and needs no mpp."""
    mpp: float | None = Field(default=None, gt=0)
    """Micrometres per level-0 pixel of slides where neither the table nor the file says; `--mpp` sets it."""
    mpp_from_power: bool = False
    """Whether the power of the objective may say it at last: 10 / power, true within a tenth or two."""
    icc: bool = False
    """Whether a colour profile in the file is applied to the patches (to sRGB); `--icc` sets it."""
    tissue_rule: Literal["s-or-v", "s-and-v", "s", "v"] = "s-or-v"
    """A pixel is tissue if its saturation is above, or (and) its value not above, the slide's Otsu."""
    min_tissue: float = Field(default=0.25, ge=0, le=1)
    """Share of tissue from which a patch is kept. The paper does not say; half empties thin colon images."""
    tissue: TissueConfig = TissueConfig()
    equalise: Literal["channel", "luminance", "none"] = "channel"
    """Histogram equalisation of each patch: each RGB channel (paper, as read), luminance only, or none. Left
    out: channel for pixels, none for an encoder, which was trained on pictures as they are."""

    @model_validator(mode="after")
    def _patches_move_on(self) -> "PatchConfig":
        if self.overlap_px >= self.size_px:
            raise ValueError(
                f"an overlap of {self.overlap_px} px is no less than a patch of {self.size_px} px"
            )
        return self
