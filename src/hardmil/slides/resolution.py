"""How many micrometres a pixel of a slide measures, whom to believe, and what is a slip."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hardmil.config.patches import PatchConfig
from hardmil.errors import SlideError

PLAUSIBLE_UM_PER_PX = (0.01, 20.0)
"""A resolution outside is no scan's: 72 dots an inch, which programs write by default, would be 353 um/px."""

SQUARE = 1.01
"""Pixels whose sides differ by more are not square; scanners' own figures differ in the fourth digit."""

UM_PER_PX_AT_1X = 10.0
"""A 10x objective samples about 1 micrometre a pixel: mpp = 10 / power."""

SLIP = 3.0
"""mpp and 10 / power differ by more only where one is wrong: a 20x objective with a doubler is within 2."""

Source = Literal["table", "file", "--mpp", "objective"]


@dataclass(frozen=True)
class Scale:
    """What a file says, right or wrong: um per level-0 px along x and y, power of the objective; or None."""

    mpp_x: float | None = None
    mpp_y: float | None = None
    power: float | None = None

    @property
    def mpp(self) -> float | None:
        """Micrometres per level-0 px; None where unknown, implausible, or different along x and y."""
        return None if self.is_oblong else plausible_mpp(self._known)

    @property
    def is_oblong(self) -> bool:
        """Whether pixels are not square."""
        known = self._known
        return len(known) == 2 and min(known) > 0 and max(known) > min(known) * SQUARE

    @property
    def implausible(self) -> float | None:
        """A resolution that the file states and no scan has; None where there is none such."""
        known = self._known
        return known[0] if known and plausible_mpp(known) is None else None

    @property
    def _known(self) -> list[float]:
        return [value for value in (self.mpp_x, self.mpp_y) if value is not None]


@dataclass(frozen=True)
class Resolution:
    """Micrometres per level-0 px, and who said so; both None where nobody did."""

    mpp: float | None
    source: Source | None


def positive(text: str | None) -> float | None:
    """A number above 0 as a file states it; None where it is "", "unknown" or none such."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def plausible_mpp(values: list[float]) -> float | None:
    """Mean of the resolutions along x and y in um/px, or None where there is none that a scan can have."""
    low, high = PLAUSIBLE_UM_PER_PX
    known = [value for value in values if low <= value <= high]
    return float(np.mean(known)) if known else None


def find_resolution(scale: Scale, *, table: float | None, config: PatchConfig) -> Resolution:
    """Micrometres per level-0 px: of the table, else of the file, else `patches.mpp`, else of the objective.

    The table is a person's word on this one slide, and how a wrong file is put right; so it comes first. The
    objective counts only under `patches.mpp_from_power`.
    """
    from_power = UM_PER_PX_AT_1X / scale.power if config.mpp_from_power and scale.power else None
    said: list[tuple[float | None, Source]] = [
        (table, "table"),
        (scale.mpp, "file"),
        (config.mpp, "--mpp"),
        (from_power, "objective"),
    ]
    return next((Resolution(mpp, source) for mpp, source in said if mpp is not None), Resolution(None, None))


def needed_mpp(scale: Scale, *, path: Path, table: float | None, config: PatchConfig) -> float | None:
    """Micrometres per level-0 px of a slide, checked; None where level-0 pixels are taken as they are.

    Raises:
        SlideError: If `patches.um_per_px` asks for a resolution and nobody knows the slide's, its pixels are
            not square, or what is said of it cannot be true.
    """
    if config.um_per_px is None:
        return None
    found = find_resolution(scale, table=table, config=config)
    if scale.is_oblong:
        raise SlideError(
            f"{path}: its pixels are not square ({scale.mpp_x:g} x {scale.mpp_y:g} um); expected square "
            "ones for patches.um_per_px; resample the slide, or set patches.um_per_px: null to cut its "
            "pixels as they are"
        )
    if found.mpp is None:
        raise SlideError(f"{path}: {_what_is_missing(scale, wanted=config.um_per_px)}")
    if scale.power and max(found.mpp * scale.power, 100 / (found.mpp * scale.power)) > UM_PER_PX_AT_1X * SLIP:
        raise SlideError(
            f"{path}: {_WHO[found.source]} says {found.mpp:g} um/px, the objective {scale.power:g}x, which "
            f"gives about {UM_PER_PX_AT_1X / scale.power:g}; a slip of unit or of the decimal point? Put the "
            "right one into the mpp column of slides.csv"
        )
    return found.mpp


_WHO: dict[Source | None, str] = {
    "table": "the table of slides",
    "file": "the file",
    "--mpp": "--mpp (patches.mpp)",
    "objective": "the objective",
}


def _what_is_missing(scale: Scale, *, wanted: float) -> str:
    if scale.implausible is not None:
        low, high = PLAUSIBLE_UM_PER_PX
        what = f"the file says {scale.implausible:g} um/px, which no scan has ({low:g} to {high:g}), while"
    else:
        what = "the file does not say its micrometres per pixel, which"
    power = (
        f"set patches.mpp_from_power: true to take {UM_PER_PX_AT_1X / scale.power:g} of its "
        f"{scale.power:g}x objective, "
        if scale.power
        else ""
    )
    needs = "needs one" if scale.implausible is not None else "needs"
    return (
        f"{what} patches.um_per_px: {wanted} {needs}; fill the mpp column in slides.csv, give --mpp "
        f"(patches.mpp) for all slides that do not say, {power}or set patches.um_per_px: null to cut level-0 "
        "pixels as they are"
    )


def resolution_notes(scale: Scale, *, table: float | None, config: PatchConfig) -> list[str]:
    """What a person should know of a slide's resolution though it can be used: in words, maybe none."""
    found = find_resolution(scale, table=table, config=config)
    notes: list[str] = []
    if table is not None and scale.mpp is not None and abs(table / scale.mpp - 1) > SQUARE - 1:
        notes.append(
            f"the table says {table:g} um/px, the file {scale.mpp:g}; the table is taken, correct or clear it"
        )
    if found.source == "objective":
        notes.append(f"its {found.mpp:g} um/px are only those of a {scale.power:g}x objective")
    return notes
