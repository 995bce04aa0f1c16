"""Settings of the comparison of arms: arms, folds, operating point, calibration."""

import math
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator

from hardmil.config.section import ADDED_LATER, Section
from hardmil.config.task import TaskConfig

CalibrationMethod = Literal["temperature", "isotonic", "vector", "none"]
Criterion = Literal["auc", "partial-auc", "fpr"]
SENSITIVITY_MARGIN = 0.05


def calibration_fault(method: CalibrationMethod, *, task: TaskConfig) -> str | None:
    """Why these classes cannot have this calibration; None if they can."""
    possible = ["none", "temperature"]
    if not task.ordinal:
        possible.append("isotonic" if task.is_binary else "vector")
    if method in possible:
        return None
    classes = "ordered classes" if task.ordinal else f"{task.n_classes} classes"
    return f"evaluation.calibration is {method}, which is not for {classes}; expected {', '.join(possible)}"


class OperatingTarget(NamedTuple):
    """What a threshold is set for: a sensitivity, a false-positive rate, or the best of both."""

    kind: Literal["sensitivity", "fpr", "youden"]
    share: float


def parse_operating_target(text: str) -> OperatingTarget:
    """("sensitivity", 0.95) for "sensitivity=0.95"; also for "fpr=0.05" and "youden", whose share is NaN.

    Raises:
        ValueError: If the text is none of these, or the number is not a share.
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


class AutoConfig(Section):
    """The arm auto: the best of its candidates, by out-of-fold scores inside the training fold. Ours."""

    candidates: tuple[str, ...] = Field(
        default=(
            *("ours", "ours-top5", "ours-mean"),
            *("abmil", "abmil-top5", "abmil-mean"),
            *("ours+instance", "ours-top5+instance", "ours-mean+instance"),
        ),
        min_length=2,
    )
    """Arms to choose from, preferred ones first. Those that only score bags differently share trainings."""
    criterion: Criterion = "auc"
    """What is compared: auc; partial-auc, its part above a sensitivity of 0.8; or fpr, the false-positive
    rate at the sensitivity of the operating point (0.90 if that is set for something else)."""
    standard_errors: float = Field(default=1.0, ge=0)
    """The first candidate that is at most this many standard errors below the best is taken. 0: the best. The
    standard error is that of the difference, by case."""


class FisherConfig(Section):
    """The arm sdr-svm: Fisher vectors of local descriptors and a linear SVM, in part as Song et al. 2017."""

    radii: tuple[Annotated[float, Field(gt=0, le=0.45)], ...] = Field(default=(0.25, 0.44), min_length=1)
    """Radii of the DAISY descriptors, as shares of the edge of a patch: a nucleus, and most of the patch.
    Ours."""
    step: float = Field(default=0.125, gt=0, le=1)
    """Distance between descriptors, as a share of the edge of a patch. Ours; 16 + 1 descriptors in 32 px."""
    n_dims: int = Field(default=64, ge=1)
    """Dimensions kept of a descriptor (PCA). Perronnin et al. 2010: 64."""
    n_modes: int = Field(default=32, ge=1)
    """Gaussians of the mixture, fewer where there are few descriptors. Perronnin et al.: 256, with more
    images."""
    max_descriptors: int = Field(default=50_000, ge=100)
    """Descriptors used to fit PCA and mixture, equally many from each training bag; limits the time."""
    n_reduced: int = Field(default=8, ge=1)
    """Dimensions of the reduced Fisher vector (partial least squares stands in for the step of Song et
    al.)."""
    svm_c: float = Field(default=1.0, gt=0)
    """Cost of the linear SVM: a larger value fits the training bags more closely. 1 is usual for scaled
    input."""


class EvaluationConfig(Section):
    """Which arms are compared, on which folds."""

    arms: tuple[str, ...] = Field(
        default=("ours", "ours+fmb-oof", "ours+fmb-oof@random", "ours+instance", "auto"), min_length=1
    )
    """Arms, base[+use[-option]...][@random]; all run on the same folds with the same seeds. The random
    control of an arm that mines, @random, always runs, even if it is not listed."""
    folds: int = Field(default=5, ge=2)
    """K of K-fold cross-validation, stratified by label. Folds never split a case."""
    repeats: int = Field(default=1, ge=1)
    """How often the folds are drawn again."""
    splits: str | None = None
    """Fixed folds instead of drawn ones: a folder with CLAM's splits_0.csv, ... (columns train, val,
    test), or a table with columns slide_id, fold_0, fold_1, ... that say train, val or test."""
    operating_point: str = "sensitivity=0.90"
    """What the threshold of `fpr_op`, and of the bundle that `train` writes, is set for: "sensitivity=0.90",
    "fpr=0.05" or "youden". It is set on out-of-fold scores of the whole arm, inside the training fold."""
    operating_folds: int = Field(default=4, ge=0)
    """Folds of these scores; each trains the whole arm. If equal to mining.inner_folds, both share models.
    0: no operating point and no calibration, which saves their time."""
    sensitivity_margin: float = Field(default=SENSITIVITY_MARGIN, ge=0, le=0.5, json_schema_extra=ADDED_LATER)
    """How much lower the sensitivity of an arm may be for "fewer false positives": both are tested together.
    Ours."""
    calibration: CalibrationMethod = "temperature"
    """Turns a score into a probability, fitted on the same scores: one number (temperature), a step
    function (isotonic, two classes), or a weight and a shift for each class (vector, more than two)."""

    @field_validator("operating_point")
    @classmethod
    def _is_operating_point(cls, value: str) -> str:
        parse_operating_target(value)
        return value
