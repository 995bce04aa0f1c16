"""Settings of tissue and patches."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from hardmil.config.section import ADDED_LATER, Section

Equalise = Literal["none", "channel", "luminance", "image"]

IMAGE_WITH_ENCODER = (
    "patches.equalise is image, which counts the colours of all patches of a slide at once; an encoder sees "
    "them block by block; set it to none"
)
"""Message of the error: one reading of equalisation cannot be used with an encoder."""


PLAUSIBLE_UM_PER_PX = (0.05, 10.0)
"""Micrometres per level-0 pixel of any scan; 72 dots per inch, a default of programs, would be 353."""


def is_plausible_mpp(mpp: float) -> bool:
    """Whether a scan can have this resolution, in micrometres per level-0 pixel."""
    low, high = PLAUSIBLE_UM_PER_PX
    return low <= mpp <= high


def implausible_mpp(mpp: float) -> str:
    """What is wrong with a resolution that is not plausible, for errors."""
    low, high = PLAUSIBLE_UM_PER_PX
    return f"{mpp:g} um/px; expected {low:g} to {high:g}, as of a scan; check the unit and the decimal point"


class TissueConfig(Section):
    """What counts as tissue, in addition to Otsu's threshold. Sizes are micrometres on the slide."""

    um_per_px: float = Field(default=8.0, gt=0)
    """Resolution at which tissue is found. A slide of at most 2,048 px is used at full resolution. A slide of
    unknown mpp is reduced to 2,048 px; the areas below then have no effect."""
    min_area_um2: float = Field(default=2500.0, ge=0)
    """Smallest piece of tissue; smaller ones are dust. 2,500 is a square of 50 um. For single cells: 0."""
    max_hole_um2: float = Field(default=2500.0, ge=0)
    """Largest hole that is filled: a pale lumen or a crack. A larger hole is glass."""
    drop_pen: bool = True
    """Whether green, blue, red and black pen marks of at least 200 x 200 um are excluded. Without effect on a
    slide of unknown mpp."""
    drop_blurred: bool = False
    """Whether areas out of focus, by about 2 um or more, are excluded. Reads the tissue at 1 um/px."""
    keep: tuple[str, ...] = ()
    """Classes of annotated areas; only these can be tissue. "*": all annotated areas. Empty: the whole slide.
    A derived class of QuPath is written "Artefact: Fold".
    Annotations are GeoJSON as exported by QuPath, in column `annotations` of the table of slides."""
    drop: tuple[str, ...] = ()
    """Classes of annotated areas that are excluded. "*": all annotated areas."""


class PatchConfig(Section):
    """Patches: where they are, their size and their colours."""

    mode: Literal["grid", "nuclei"] = "grid"
    """grid: a grid of squares; nuclei: centred on annotated nuclei (reproduce)."""
    size_px: int = Field(default=32, ge=8, le=1024)
    """Edge of a patch, in pixels at `um_per_px`. If not set: 32 for pixels (the paper's network takes 24
    to 48), 224 for an encoder."""
    overlap_px: int = Field(default=0, ge=0)
    """Overlap of neighbouring patches, in pixels at `um_per_px`. Paper: 0."""
    edge: Literal["drop", "shift"] = Field(default="drop", json_schema_extra=ADDED_LATER)
    """The strips at the right and lower edge of a slide that are narrower than a patch. drop: they are left
    out; shift: one more patch ends at the edge and overlaps its neighbour. shift suits small fields of view,
    where a strip may be a quarter of the field."""
    um_per_px: float | None = Field(default=0.5, gt=0)
    """Resolution of a patch, in micrometres per pixel. null: level-0 pixels, whatever their size."""
    max_enlargement: float = Field(default=1.5, ge=1, json_schema_extra=ADDED_LATER)
    """How many times a patch may be enlarged where the slide is coarser than `um_per_px`. If it would
    have to be more, the slide is refused: its pixels do not show what those of other slides show."""
    mpp: float | None = Field(default=None, gt=0)
    """Micrometres per level-0 pixel of slides where neither table nor file has it. `--mpp` sets it."""
    mpp_from_power: bool = False
    """Whether the objective power may give it as a last resort: 10 / power, correct within 10 to 20%."""
    icc: bool = False
    """Whether a colour profile in the file is applied to the patches (to sRGB). `--icc` sets it."""
    tissue_rule: Literal["absorption", "s-or-v", "s-and-v", "s", "v"] = "absorption"
    """What makes a pixel tissue. absorption: its darkest channel is below 0.90 of the light of the glass, and
    it is not black, as empty areas of some scanners are (docs/tissue.md). s-or-v (the paper): its saturation
    is above Otsu's threshold of the image, or its value not above it; s-and-v, s, v: both, or one of them."""
    min_tissue: float = Field(default=0.25, ge=0, le=1)
    """Smallest share of tissue in a patch. The paper does not say; 0.5 leaves some colon images without a
    patch."""
    tissue: TissueConfig = TissueConfig()
    equalise: Equalise = "none"
    """Histogram equalisation: none; of each patch, each RGB channel (the paper, read literally) or luminance;
    image: of all patches of an image together, by channel. With channel or image, the network learns less
    (docs/decisions/0012). An encoder was trained on unchanged images: none."""

    @field_validator("mpp")
    @classmethod
    def _is_plausible(cls, value: float | None) -> float | None:
        if value is not None and not is_plausible_mpp(value):
            raise ValueError(f"that is {implausible_mpp(value)}")
        return value

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> "PatchConfig":
        if self.overlap_px >= self.size_px:
            raise ValueError(
                f"an overlap of {self.overlap_px} px is not smaller than a patch of {self.size_px} px"
            )
        return self
