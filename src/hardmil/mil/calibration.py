"""From a score to a probability: temperature or isotonic, fitted on out-of-fold scores."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import math
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.optimize import minimize, minimize_scalar

from hardmil.config.evaluation import CalibrationMethod, calibration_fault
from hardmil.config.task import TWO_CLASSES
from hardmil.errors import BagError, ConfigError
from hardmil.metrics import check_scores

SMALLEST = 1e-12
"""Scores are kept this far from 0 and 1, where the logit is infinite."""
TEMPERATURES = (0.05, 50.0)


BinaryMethod = Literal["temperature", "isotonic", "none"]


class Calibration(BaseModel):
    """Turns a score into a probability.

    temperature: sigmoid((logit(score) - shift) / temperature); shift is 0 for scores whose 0.5 means even
    odds. isotonic: linear between the knots, constant outside.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: BinaryMethod
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    shift: float = Field(default=0.0, allow_inf_nan=False)
    knots: tuple[tuple[float, float], ...] = ()

    @model_validator(mode="after")
    def _knots_are_a_line(self) -> "Calibration":
        scores, chances = ([knot[side] for knot in self.knots] for side in (0, 1))
        if self.method == "isotonic" and not self.knots:
            raise ValueError("isotonic without knots")
        if not all(map(math.isfinite, [*scores, *chances])) or scores != sorted(scores):
            raise ValueError("knots that are not finite, or not sorted by score")
        return self

    def probabilities(self, scores: Float[np.ndarray, " bag"]) -> Float[np.ndarray, " bag"]:
        """The probability that a slide with this score is positive, among slides like those of the study."""
        match self.method:
            case "none":
                return scores.astype(np.float64)
            case "temperature":
                return _sigmoid((_logit(scores) - self.shift) / self.temperature)
            case "isotonic":
                x, y = np.array(self.knots).T
                return np.interp(scores, x, y)


def fit_calibration(
    labels: Int[np.ndarray, " bag"],
    scores: Float[np.ndarray, " bag"],
    *,
    method: CalibrationMethod,
    is_centred: bool = True,
) -> Calibration:
    """A calibration fitted on out-of-fold scores.

    Args:
        labels: 0 or 1; both occur.
        scores: Scores from 0 to 1, of models that did not see the bag.
        method: How scores become probabilities.
        is_centred: Whether the scores were trained so that 0.5 means even odds, as a bag logit is. If not, a
            shift is fitted with the temperature (Platt 1999).

    Raises:
        BagError: If one of the two labels does not occur, or a score is not finite.
        ConfigError: If the method is not for two classes.

    Source: temperature, Guo et al. 2017, with the targets of Platt 1999, (n + 1) / (n + 2) and 1 / (n + 2):
    with few slides that are perfectly separated, targets of 0 and 1 would move every score to 0 or 1.
    Isotonic, Zadrozny and Elkan 2002, by scikit-learn.
    """
    if len(set(labels.tolist())) < 2:
        raise BagError(
            f"a calibration needs bags of both labels; found {sorted(set(labels.tolist()))}; add slides "
            "with the other label, or set evaluation.operating_folds: 0"
        )
    check_scores(scores)
    match method:
        case "vector":
            raise ConfigError(calibration_fault(method, task=TWO_CLASSES))
        case "none":
            return Calibration(method="none")
        case "temperature":
            logits = _logit(scores)
            shift = 0.0 if is_centred else _best_shift(labels, logits)
            found = _best_temperature(labels, logits - shift)
            return Calibration(method="temperature", temperature=found, shift=shift)
        case "isotonic":
            from sklearn.isotonic import IsotonicRegression

            fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, labels)
            knots = zip(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist(), strict=True)
            return Calibration(method="isotonic", knots=tuple(knots))


def _targets(labels: np.ndarray) -> np.ndarray:
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    return np.where(labels == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))


def _best_shift(labels: np.ndarray, logits: np.ndarray) -> float:
    """The logit of even odds: where the line fitted with any slope is 0, kept within the logits.

    A slope that is not positive has no such logit; the median stands in for it.
    """
    targets = _targets(labels)

    def loss(line: np.ndarray) -> float:
        scaled = line[0] * logits + line[1]
        return float(np.mean(np.logaddexp(0, scaled) - targets * scaled))

    slope, level = minimize(loss, x0=np.array([1.0, -np.median(logits)]), method="Nelder-Mead").x
    if slope <= 0:
        return float(np.median(logits))
    return float(np.clip(-level / slope, logits.min(), logits.max()))


def _best_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    targets = _targets(labels)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - targets * scaled))

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def _logit(scores: np.ndarray) -> np.ndarray:
    kept = np.clip(scores.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(kept) - np.log1p(-kept)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))
