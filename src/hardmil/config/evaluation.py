"""Settings of the comparison of arms: arms, folds, operating point, calibration."""

import math
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator

from hardmil.config.section import Section

CalibrationMethod = Literal["temperature", "isotonic", "none"]


class OperatingTarget(NamedTuple):
    """What a threshold is for: a share of the positives, of the negatives at most, or the best of both."""

    kind: Literal["sensitivity", "fpr", "youden"]
    share: float


def parse_operating_target(text: str) -> OperatingTarget:
    """("sensitivity", 0.95) for "sensitivity=0.95", the same of "fpr=0.05"; ("youden", nan) for "youden".

    Raises:
        ValueError: If it is none of these, or no share.
    """
    if text == "youden":
        return OperatingTarget("youden", math.nan)
    kind, _, number = text.partition("=")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if kind == "sensitivity" and 0 < share <= 1:
        return OperatingTarget("sensitivity", share)
    if kind == "fpr" and 0 <= share < 1:
        return OperatingTarget("fpr", share)
    raise ValueError(f'an operating point is "sensitivity=0.95", "fpr=0.05" or "youden", not {text!r}')


class FisherConfig(Section):
    """The arm sdr-svm: Fisher vectors of local descriptors, and a linear SVM. Song et al. 2017, in part."""

    radii: tuple[Annotated[float, Field(gt=0, le=0.45)], ...] = Field(default=(0.25, 0.44), min_length=1)
    """Radii of the DAISY descriptors, as shares of a patch's edge: a nucleus, and most of it. Ours."""
    step: float = Field(default=0.125, gt=0, le=1)
    """Distance of neighbouring descriptors, as a share of the patch's edge. Ours; 16 + 1 in one of 32 px."""
    n_dims: int = Field(default=64, ge=1)
    """Dimensions a descriptor keeps (PCA), no more than it has. Perronnin et al. 2010: 64."""
    n_modes: int = Field(default=32, ge=1)
    """Gaussians of the mixture, fewer where descriptors are few. Perronnin et al.: 256, of more images."""
    max_descriptors: int = Field(default=50_000, ge=100)
    """Descriptors that PCA and mixture are fitted on, an equal share of each training bag; bounds time."""
    n_reduced: int = Field(default=8, ge=1)
    """Dimensions a Fisher vector is reduced to (partial least squares, for Song et al.'s own step)."""
    svm_c: float = Field(default=1.0, gt=0)
    """Cost of the linear SVM: larger fits the training bags more closely. 1 is usual for scaled input."""


class EvaluationConfig(Section):
    """Which arms are compared, on which folds."""

    arms: tuple[str, ...] = Field(
        default=("ours", "ours+fmb-oof", "ours+fmb-oof@random", "ours+instance"), min_length=1
    )
    """Arms, base[+use[-option]...][@random]; all run on the same folds with the same seeds. The control of an
    arm that mines, @random, is run even where it is not named."""
    folds: int = Field(default=5, ge=2)
    """K of K-fold cross-validation, stratified by label, never splitting a case."""
    repeats: int = Field(default=1, ge=1)
    """Times the folds are drawn anew."""
    splits: str | None = None
    """Folder of CLAM's splits_0.csv ... (columns train, val, test), or a table with columns slide_id, fold_0,
    fold_1 ... of train, val, test, to use instead of drawn folds."""
    operating_point: str = "sensitivity=0.90"
    """What the threshold of `fpr_op`, and of the bundle that `train` leaves, is for: "sensitivity=0.90",
    "fpr=0.05" or "youden"; on out-of-fold scores of the whole arm in the training fold."""
    operating_folds: int = Field(default=4, ge=0)
    """Folds of those scores, each a training of the whole arm; equal to mining.inner_folds they share its
    models. 0: no operating point and no calibration, and no wait for them."""
    calibration: CalibrationMethod = "temperature"
    """What turns a score into a probability, on the same scores: one number, or a step curve (isotonic)."""

    @field_validator("operating_point")
    @classmethod
    def _is_operating_point(cls, value: str) -> str:
        parse_operating_target(value)
        return value
