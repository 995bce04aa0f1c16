"""From the scores of more than two classes to probabilities, fitted on out-of-fold scores."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from hardmil.config.evaluation import CalibrationMethod, calibration_fault
from hardmil.config.task import TaskConfig, of_steps, or_higher
from hardmil.errors import BagError, ConfigError
from hardmil.metrics import check_scores
from hardmil.mil.calibration import SMALLEST, TEMPERATURES

WEIGHTS = (1 / TEMPERATURES[1], 1 / TEMPERATURES[0])
"""The weight of a score is one over its temperature."""


class ClassCalibration(BaseModel):
    """Turns the scores of classes into probabilities; unless multi-label, both sum to 1.

    Exclusive classes: softmax(weight * log(score) + bias), with a weight and a bias for each class;
    temperature has equal weights. Ordered classes: sigmoid(weight * logit(score) + bias) of "this class or
    higher", with one weight and one bias, so that the order of the chances is kept. Multi-label:
    sigmoid(weight * logit(score) + bias), with weights and biases as for exclusive classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["none", "temperature", "vector"]
    ordinal: bool = False
    multi_label: bool = False
    weights: tuple[float, ...] = ()
    biases: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _is_whole(self) -> "ClassCalibration":
        if len(self.weights) != len(self.biases) or (self.method != "none" and not self.weights):
            raise ValueError(f"{len(self.weights)} weights and {len(self.biases)} biases; expected as many")
        if not all(map(np.isfinite, (*self.weights, *self.biases))) or min(self.weights, default=1) <= 0:
            raise ValueError("weights or biases that are not finite, or a weight that is not above 0")
        return self

    def probabilities(self, class_scores: Float[np.ndarray, "bag class"]) -> Float[np.ndarray, "bag class"]:
        """The probability of each class, among slides like those of the study."""
        if self.method == "none":
            return class_scores.astype(np.float64)
        weights, biases = np.array(self.weights), np.array(self.biases)
        if self.multi_label:
            return expit(_logits_of(class_scores) * weights + biases)
        if self.ordinal:
            return of_steps(expit(_logits_of(or_higher(class_scores)) * weights + biases))
        return softmax(_logarithms(class_scores) * weights + biases, axis=1)


def fit_class_calibration(
    labels: Int[np.ndarray, " bag"],
    class_scores: Float[np.ndarray, "bag class"],
    *,
    method: CalibrationMethod,
    task: TaskConfig,
    is_centred: bool = True,
) -> ClassCalibration:
    """A calibration fitted on out-of-fold scores.

    Args:
        labels: Positions of classes; all occur. Of a multi-label study: its labels.
        class_scores: Of models that did not see the bag.
        method: temperature, vector (not for ordered classes) or none.
        task: The classes.
        is_centred: Whether the scores were trained to be chances, as those of bag logits are. If not, biases
            are fitted with the temperature.

    Raises:
        BagError: If a class does not occur, or, if multi-label, occurs everywhere, or a score is not finite.
        ConfigError: If there is no such calibration of these classes.

    Source: temperature and vector scaling, Guo et al. 2017, with targets (n + 1) / (n + k) of the class of a
    bag and 1 / (n + k) of the others, where n bags are of the class and there are k classes: of two, those of
    Platt 1999, as in `fit_calibration`.
    """
    if (wrong := calibration_fault(method, task=task)) is not None:
        raise ConfigError(wrong)
    missing = np.flatnonzero(~task.strata(labels).any(axis=0))
    if len(missing):
        every = [*task.names, *(f"not {name}" for name in task.names)]
        names = ", ".join(every[k] for k in missing)
        raise BagError(
            f"a calibration needs bags of all classes; found none of {names}; add slides, or set "
            "evaluation.operating_folds: 0"
        )
    check_scores(class_scores.reshape(-1))
    if method not in ("temperature", "vector"):
        return ClassCalibration(method="none", ordinal=task.ordinal, multi_label=task.multi_label)
    n_biases = 0 if is_centred and method == "temperature" else 1 if task.ordinal else task.n_classes
    weights, biases = _fit(
        _logits_of(task.branch_scores(class_scores))
        if task.ordinal or task.multi_label
        else _logarithms(class_scores),
        targets=_targets(labels, task=task),
        sums_to_one=not (task.ordinal or task.multi_label),
        n_weights=1 if method == "temperature" else task.n_classes,
        n_biases=n_biases,
    )
    return ClassCalibration(
        method=method, ordinal=task.ordinal, multi_label=task.multi_label, weights=weights, biases=biases
    )


def _logarithms(class_scores: Float[np.ndarray, "bag class"]) -> Float[np.ndarray, "bag class"]:
    return np.log(np.clip(class_scores, SMALLEST, 1))


def _logits_of(chances: Float[np.ndarray, "bag branch"]) -> Float[np.ndarray, "bag branch"]:
    kept = np.clip(chances, SMALLEST, 1 - SMALLEST)
    return np.log(kept) - np.log1p(-kept)


def _targets(labels: Int[np.ndarray, " bag"], *, task: TaskConfig) -> Float[np.ndarray, "bag logit"]:
    """What the probabilities should be: near 1 for the class of a bag, the nearer the more bags it has.

    Multi-label: of each class, the targets of two classes.
    """
    if task.multi_label:
        yes = task.answers(labels)
        n_yes, n_no = yes.sum(axis=0), (~yes).sum(axis=0)
        return np.where(yes, (n_yes + 1) / (n_yes + 2), 1 / (n_no + 2))
    one_hot = np.eye(task.n_classes)[labels]
    targets = (one_hot * one_hot.sum(axis=0) + 1) / (one_hot.sum(axis=0)[labels, None] + task.n_classes)
    return or_higher(targets) if task.ordinal else targets


def _fit(
    logits: Float[np.ndarray, "bag logit"],
    *,
    targets: Float[np.ndarray, "bag logit"],
    sums_to_one: bool,
    n_weights: int,
    n_biases: int,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Weights and biases with the lowest cross-entropy; one of them, or none, stands for all logits."""
    n = logits.shape[1]

    def unpacked(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights, biases = numbers[:n_weights], numbers[n_weights:] if n_biases else np.zeros(1)
        return np.broadcast_to(weights, n), np.broadcast_to(biases, n)

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        weights, biases = unpacked(numbers)
        scaled = logits * weights + biases
        if sums_to_one:
            entropy, chances = -targets * log_softmax(scaled, axis=1), softmax(scaled, axis=1)
        else:
            entropy, chances = np.logaddexp(0, scaled) - targets * scaled, expit(scaled)
        surplus = chances - targets
        by_weight, by_bias = np.sum(surplus * logits, axis=0), np.sum(surplus, axis=0)
        slopes = [by_weight if n_weights == n else by_weight.sum(keepdims=True)]
        slopes += [by_bias if n_biases == n else by_bias.sum(keepdims=True)] if n_biases else []
        return float(np.sum(entropy)) / len(logits), np.concatenate(slopes) / len(logits)

    start = np.array([1.0] * n_weights + [0.0] * n_biases)
    bounds = [WEIGHTS] * n_weights + [(None, None)] * n_biases
    weights, biases = unpacked(minimize(loss, x0=start, jac=True, bounds=bounds, method="L-BFGS-B").x)
    return tuple(weights.tolist()), tuple(biases.tolist())
