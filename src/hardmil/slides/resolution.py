"""Micrometres per pixel of a slide: which source counts, and which values are implausible."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hardmil.config.patches import PLAUSIBLE_UM_PER_PX, PatchConfig, implausible_mpp, is_plausible_mpp
from hardmil.errors import SlideError

SQUARE = 1.01
"""Pixels whose sides differ by more than this factor are not square; in scanners' values the fourth digit
differs."""

UM_PER_PX_AT_1X = 10.0
"""A 10x objective samples about 1 micrometre per pixel: mpp = 10 / power."""

MAX_RATIO = 3.0
"""If mpp and 10 / power differ by more than this factor, one is wrong; a 20x objective with a 2x adapter is
within 2."""

DECIMAL_SLIPS = (10.0, 100.0)
"""Factors between a value and the same with a misplaced decimal point. An image that was made smaller has
another factor, such as 4 or 16, and the table may correct its file."""

Source = Literal["table", "file", "--mpp", "objective"]


@dataclass(frozen=True)
class Scale:
    """What a file states, unchecked: um per level-0 px along x and y, power of the objective; or None."""

    mpp_x: float | None = None
    mpp_y: float | None = None
    power: float | None = None

    @property
    def mpp(self) -> float | None:
        """Micrometres per level-0 px; None if unknown, implausible, or different along x and y."""
        return None if self.is_oblong else plausible_mpp(self._known)

    @property
    def is_oblong(self) -> bool:
        """Whether the pixels are not square; False where the file states the resolution of a screen."""
        known = self._known
        is_known = len(known) == 2 and min(known) > 0 and plausible_mpp(known) is not None
        return is_known and max(known) > min(known) * SQUARE

    @property
    def implausible(self) -> float | None:
        """The resolution that the file states, if it is implausible for a scan; else None."""
        known = self._known
        return known[0] if known and plausible_mpp(known) is None else None

    @property
    def _known(self) -> list[float]:
        return [value for value in (self.mpp_x, self.mpp_y) if value is not None]


UNKNOWN_SCALE = Scale()


@dataclass(frozen=True)
class Resolution:
    """Micrometres per level-0 px and their source; both None if unknown."""

    mpp: float | None
    source: Source | None


def positive(text: str | None) -> float | None:
    """The number in a file's text, if it is finite and above 0; else None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def plausible_mpp(values: list[float]) -> float | None:
    """Mean of the resolutions along x and y in um/px that are plausible for a scan; None if none is."""
    known = [value for value in values if is_plausible_mpp(value)]
    return float(np.mean(known)) if known else None


def find_resolution(
    scale: Scale, *, table: float | None, fallback: float | None = None, from_power: bool = False
) -> Resolution:
    """Micrometres per level-0 px: from the table, else the file, else the fallback, else the objective power.

    The table is a person's statement about this one slide, and the way to correct a wrong file; so it comes
    first.

    Args:
        scale: What the file says.
        table: The value of the table of slides.
        fallback: `patches.mpp`, or `--mpp` of predict.
        from_power: Whether 10 divided by the objective power may be used, `patches.mpp_from_power`.
    """
    by_power = UM_PER_PX_AT_1X / scale.power if from_power and scale.power else None
    known: list[tuple[float | None, Source]] = [
        (table, "table"),
        (scale.mpp, "file"),
        (fallback, "--mpp"),
        (by_power, "objective"),
    ]
    return next((Resolution(mpp, source) for mpp, source in known if mpp is not None), Resolution(None, None))


def study_resolution(scale: Scale, *, table: float | None, config: PatchConfig) -> Resolution:
    """The resolution of a slide under the settings of a study."""
    return find_resolution(scale, table=table, fallback=config.mpp, from_power=config.mpp_from_power)


def needed_mpp(scale: Scale, *, path: Path, table: float | None, config: PatchConfig) -> float | None:
    """Micrometres per level-0 px of a slide, checked; None if `patches.um_per_px` is null.

    Raises:
        SlideError: If a resolution was given that no scan has; or if `patches.um_per_px` is set and the
            slide's resolution is unknown, its pixels are not square, or its resolution is implausible for its
            objective or its file.
    """
    found = study_resolution(scale, table=table, config=config)
    if found.mpp is not None and not is_plausible_mpp(found.mpp):
        raise SlideError(f"{path}: {_SOURCE_NAMES[found.source]} says {implausible_mpp(found.mpp)}")
    if config.um_per_px is None:
        return None
    if scale.is_oblong:
        raise SlideError(
            f"{path}: its pixels are not square ({scale.mpp_x:g} x {scale.mpp_y:g} um); expected square "
            "ones for patches.um_per_px; resample the slide, or set patches.um_per_px: null to use its "
            "pixels unchanged"
        )
    if found.mpp is None:
        raise SlideError(f"{path}: {_what_is_missing(scale, wanted=config.um_per_px)}")
    ratio = found.mpp * scale.power / UM_PER_PX_AT_1X if scale.power else 1.0
    if scale.power and max(ratio, 1 / ratio) > MAX_RATIO:
        raise SlideError(
            f"{path}: {_SOURCE_NAMES[found.source]} says {found.mpp:g} um/px; expected about "
            f"{UM_PER_PX_AT_1X / scale.power:g} from its {scale.power:g}x objective; check the unit and the "
            "decimal point, and put the correct value into the mpp column of slides.csv"
        )
    if table is not None and scale.mpp is not None and not scale.power and _is_slip(table / scale.mpp):
        raise SlideError(
            f"{path}: the table of slides says {table:g} um/px, the file {scale.mpp:g}; expected values that "
            "do not differ by a factor of 10 or 100; check the decimal point in the mpp column of slides.csv"
        )
    return found.mpp


def _is_slip(ratio: float) -> bool:
    """Whether two values with this ratio differ in the place of the decimal point only, within 1%."""
    larger = max(ratio, 1 / ratio)
    return any(slip / SQUARE <= larger <= slip * SQUARE for slip in DECIMAL_SLIPS)


_SOURCE_NAMES: dict[Source | None, str] = {
    "table": "the table of slides",
    "file": "the file",
    "--mpp": "--mpp (patches.mpp)",
    "objective": "the objective",
}


def _what_is_missing(scale: Scale, *, wanted: float) -> str:
    if scale.implausible is not None:
        low, high = PLAUSIBLE_UM_PER_PX
        what = f"the file says {scale.implausible:g} um/px, outside the plausible {low:g} to {high:g};"
    else:
        what = "the file does not state its micrometres per pixel;"
    power = (
        f"set patches.mpp_from_power: true to use {UM_PER_PX_AT_1X / scale.power:g} from its "
        f"{scale.power:g}x objective, "
        if scale.power
        else ""
    )
    return (
        f"{what} patches.um_per_px: {wanted} needs it; fill the mpp column in slides.csv, give --mpp "
        f"(patches.mpp) for all slides without it, {power}or set patches.um_per_px: null to use level-0 "
        "pixels unchanged"
    )


def resolution_notes(scale: Scale, *, table: float | None, config: PatchConfig) -> list[str]:
    """Notes for the user on a slide's resolution that can be used but may be wrong; often empty."""
    found = study_resolution(scale, table=table, config=config)
    notes: list[str] = []
    if table is not None and scale.mpp is not None and abs(table / scale.mpp - 1) > SQUARE - 1:
        notes.append(
            f"the table says {table:g} um/px, the file {scale.mpp:g}; the table is used: correct or clear it"
        )
    if found.source == "objective":
        notes.append(f"its {found.mpp:g} um/px are only estimated from its {scale.power:g}x objective")
    return notes
