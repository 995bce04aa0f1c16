"""The labels of a fitted classifier, and what its scores say about each."""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from hardmil.bundles.bundle import Card
from hardmil.config.task import TaskConfig
from hardmil.errors import BagError
from hardmil.estimator.given_indicators import indicator_task, indicators_of, names_of
from hardmil.estimator.given_labels import Labels, classes_of, positive_label, task_of
from hardmil.mil.bag_score import BagScore
from hardmil.mil.class_metrics import predicted_classes
from hardmil.mil.inference import bag_scores


@dataclass(frozen=True, eq=False)
class KnownClasses:
    """Labels as scikit-learn has them, sorted, and the position of each in the model's order.

    The model has the negative label before the positive one, and more than two in the order of its task. If
    bags may have several labels, these are in the order of their columns.
    """

    labels: Shaped[np.ndarray, " class"]
    in_model: Int[np.ndarray, " class"]
    task: TaskConfig

    @property
    def names(self) -> tuple[str, ...]:
        """The labels as text, in the order of the model."""
        return tuple(map(str, self._by_position.tolist()))

    @property
    def positive(self) -> Hashable:
        """The positive one of two."""
        return self._by_position[1]

    @property
    def _by_position(self) -> Shaped[np.ndarray, " class"]:
        return self.labels[np.argsort(self.in_model)]

    def positions(self, labels: Labels) -> list[int]:
        """The position of each of these labels in the model's order; of indicators, the multi-label label."""
        indicators = indicators_of(labels) if self.task.multi_label else None
        if indicators is not None:
            return (indicators @ (1 << np.arange(self.task.n_classes))).tolist()
        return self.in_model[np.searchsorted(self.labels, np.asarray(labels))].tolist()

    def probabilities(self, scores: list[BagScore], *, card: Card) -> Float[np.ndarray, "bag class"]:
        """The probability of each label, calibrated as the card says."""
        if self.task.is_binary:
            positive = bag_scores(scores)
            if card.calibration is not None:
                positive = card.calibration.probabilities(positive)
            found = np.stack([1 - positive, positive], axis=1)
        else:
            found = class_scores_of(scores, task=self.task)
            if card.class_calibration is not None:
                found = card.class_calibration.probabilities(found)
        return found[:, self.in_model]

    def logarithms(self, scores: list[BagScore]) -> Float[np.ndarray, "bag class"]:
        """The logarithm of the score of each label, for more than two."""
        smallest = np.finfo(np.float64).tiny
        return np.log(np.maximum(class_scores_of(scores, task=self.task), smallest))[:, self.in_model]

    def predicted(self, scores: list[BagScore], *, threshold: float) -> Shaped[np.ndarray, " bag *label"]:
        """The label of each bag: of two, positive above the threshold; of more, the predicted class.

        If bags may have several: 1 and 0 for each label.
        """
        if self.task.is_binary:
            return self._by_position[(bag_scores(scores) > threshold).astype(int)]
        predicted = predicted_classes(class_scores_of(scores, task=self.task), task=self.task)
        if self.task.multi_label:
            return self.task.answers(predicted).astype(np.int64)
        return self._by_position[predicted]


def class_scores_of(scores: list[BagScore], *, task: TaskConfig) -> Float[np.ndarray, "bag class"]:
    """The scores of all classes, also of no bags."""
    found = [one.class_scores for one in scores if one.class_scores is not None]
    return np.stack(found) if found else np.zeros((0, task.n_classes))


def known_classes(
    labels: Labels, *, n_bags: int, positive: Hashable | None, negative: Hashable | None, ordinal: bool
) -> KnownClasses:
    """The labels that a classifier is fitted to.

    Raises:
        BagError: If they cannot be used, or one that is named does not occur.
    """
    indicators = indicators_of(labels)
    if indicators is not None:
        if (positive, negative, ordinal) != (None, None, False):
            raise BagError(
                "positive, negative, ordinal: set, and y has a column for each label; expected None and "
                "False, because each label is a question of its own; leave them out"
            )
        names = names_of(labels, n_labels=indicators.shape[1])
        task = indicator_task(indicators, names=names, n_bags=n_bags)
        return KnownClasses(names, np.arange(len(names)), task)
    classes = classes_of(labels, n_bags=n_bags)
    task = task_of(classes, positive=positive, negative=negative, ordinal=ordinal)
    if task.names:
        return KnownClasses(classes, np.arange(len(classes)), task)
    is_second = positive_label(classes, wanted=positive) == classes[1]
    return KnownClasses(classes, np.array([0, 1] if is_second else [1, 0]), task)


def classes_of_bundle(card: Card) -> KnownClasses:
    """The labels of a bundle, which are text."""
    names = list(card.classes) if card.task.multi_label else sorted(card.classes)
    return KnownClasses(np.array(names), np.array([card.classes.index(name) for name in names]), card.task)
