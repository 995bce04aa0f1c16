"""MILClassifier: a scikit-learn estimator on bags in memory."""

import re
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from hardmil.bags.bag import Bag
from hardmil.bags.collection import check_same_instances
from hardmil.bundles.bundle import Bundle, Card, load_bundle, save_bundle
from hardmil.config.patches import PatchConfig
from hardmil.device import find_device
from hardmil.errors import BagError, HardmilError
from hardmil.estimator.arm_training import train
from hardmil.estimator.bundle_card import card_of, check_features, parameters_of
from hardmil.estimator.given_bags import (
    Bags,
    as_bags,
    as_instances,
    check_not_padded,
    check_shape,
    columns_of,
)
from hardmil.estimator.given_labels import (
    Labels,
    Weights,
    as_labels,
    cases_of,
    weights_of,
)
from hardmil.estimator.known_classes import KnownClasses, classes_of_bundle, known_classes
from hardmil.estimator.parameters import study_of
from hardmil.evaluation.results import HARD_NEGATIVES
from hardmil.mil.bag_score import BagScore
from hardmil.mil.inference import score_together
from hardmil.mil.network import BagClassifier
from hardmil.mining.hard_instances import HardInstance
from hardmil.preprocessing.instances import equalised

if TYPE_CHECKING:
    from sklearn.utils import Tags


@contextmanager
def _bags_by_position() -> Iterator[None]:
    """Errors call a bag by its position, where the library says slide."""
    try:
        yield
    except HardmilError as error:
        raise type(error)(re.sub(r"\bslide (\d+)\b", r"bag \1", str(error))) from error


def _has_decision_function(model: "MILClassifier") -> bool:
    """Whether the highest score is that of the predicted label: only of more than two exclusive labels."""
    known = getattr(model, "_known", None)
    return known is not None and not (known.task.is_binary or known.task.ordinal or known.task.multi_label)


class MILClassifier(ClassifierMixin, BaseEstimator):
    """Attention-MIL classifier of bags, which can mine hard negatives while it is fitted.

    A bag is an array (n, dim) of embeddings, or (n, height, width, 3) uint8 of pixels; training defaults
    depend on which. Every parameter is the setting of that name in a study, where its unit, default and
    source are given; None takes that default.

    Args:
        pooling: adaptive-attention (Li et al. 2019), attention or gated-attention (Ilse et al. 2018),
            linear-attention, conjunctive, mean, max, topk, noisy-and, quantile; or dsmil, transmil, clam-sb,
            clam-mb, dtfd.
        mining: none, or how a second training uses mined instances: as hard bags (sb, mb, fmb), inside
            training bags (inject), or with more weight in the instance loss (weigh).
        mining_source: train or out-of-fold: the model that finds false positives.
        cluster_weights: size, equal or stratified: how fmb picks clusters.
        n_clusters: K-means clusters of fmb.
        inner_folds: Folds of out-of-fold mining.
        rounds: How often to mine and retrain.
        retrain: scratch or continue: whether the second training starts from scratch or from the first model.
        inject_into: both, positive or negative: the bags that instances are put into.
        instance_loss: Weight of the instance loss of negative bags.
        lam: Weight of the pseudo-negative instances.
        arm: An arm by its name, such as ours-top5+instance, instead of pooling, mining and instance_loss;
            auto chooses by out-of-fold scores of the training bags (`inner_folds`): first clip,
            embedding_dim, lr and epochs among those that are None, then the arm. Probabilities are
            calibrated on these scores. With auto, `fit` trains 37 networks, of pixels 25.
        embedding_dim: Length of an instance's embedding.
        clip: Standardised features are cut off at this many standard deviations.
        epochs: Number of epochs.
        lr: Learning rate of Adam.
        weight_decay: L2 penalty in Adam.
        bags_per_step: Bags in one gradient step.
        balance: none, loss or sampler, for unequal classes.
        max_instances: Largest bag in a training step.
        positive: The positive label. None: the other one, where a label is a usual word for negative, such as
            normal or 0; otherwise the second in sorted order. Only for two labels.
        negative: Of more than two labels, the one in whose bags nothing of another can be, such as normal.
            None: there is none.
        ordinal: Whether more than two labels are ordered, each higher than the one before in sorted order,
            as grades given as numbers are. A bag is labelled by the highest in it.
        equalise: none, channel, luminance or image: histogram equalisation of pixels.
        device: auto, cpu, cuda or mps.
        random_state: Seed of weights, draws and folds; None for a random one.
        warm_start: Whether `fit` begins with the network of the fit before, or of `from_bundle`.

    Attributes:
        classes_: The labels, sorted; if bags may have several, the names of the columns, or their positions.
        n_features_in_: Number of features of an instance; missing where instances are pixels.
        feature_names_in_: Names of the columns, if the bags were tables whose columns have names.
        positive_: The positive one of two labels; missing where there are more.
        hard_negatives_: The mined instances; `slide_id` is the position of the bag, as text.
        n_false_positive_bags_: Number of bags they are from.
        arm_: The name of the arm; with auto, of the chosen one.
        choices_: What auto compared: settings, then arms; otherwise empty.
        threshold_: A bag with a higher score is called positive: 0.5, with `arm` the score that means even
            odds, or the threshold of a bundle. Not used for more than two labels.
    """

    def __init__(
        self,
        pooling: str = "adaptive-attention",
        mining: str = "none",
        *,
        mining_source: str = "train",
        cluster_weights: str = "size",
        n_clusters: int = 4,
        inner_folds: int = 4,
        rounds: int = 1,
        retrain: str = "scratch",
        inject_into: str = "both",
        instance_loss: float = 0.0,
        lam: float = 2.0,
        arm: str | None = None,
        embedding_dim: int | None = None,
        clip: float | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        bags_per_step: int = 1,
        balance: str = "none",
        max_instances: int = 10_000,
        positive: Hashable | None = None,
        negative: Hashable | None = None,
        ordinal: bool = False,
        equalise: str = "none",
        device: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
        warm_start: bool = False,
    ) -> None:
        self.pooling = pooling
        self.mining = mining
        self.mining_source = mining_source
        self.cluster_weights = cluster_weights
        self.n_clusters = n_clusters
        self.inner_folds = inner_folds
        self.rounds = rounds
        self.retrain = retrain
        self.inject_into = inject_into
        self.instance_loss = instance_loss
        self.lam = lam
        self.arm = arm
        self.embedding_dim = embedding_dim
        self.clip = clip
        self.epochs = epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.bags_per_step = bags_per_step
        self.balance = balance
        self.max_instances = max_instances
        self.positive = positive
        self.negative = negative
        self.ordinal = ordinal
        self.equalise = equalise
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start

    @_bags_by_position()
    def fit(
        self,
        bags: Bags,
        labels: Labels | None,
        *,
        groups: Labels | None = None,
        sample_weight: Weights | None = None,
    ) -> "MILClassifier":
        """Train on the bags; mine and train again unless `mining` is none.

        Args:
            bags: One array or table for each bag, all of one kind; or a tuple of one array with the rows of
                all bags, and the bag of each row, where bags are in the order of their first row.
            labels: One for each bag, of two or more values of one type; None and NaN are not labels. If bags
                may have several labels, or none: an array or table [bag, label] of 1 and 0.
            groups: The case of each bag, which inner folds never split. None: each bag is a case.
            sample_weight: The weight of each bag in the bag loss and the instance loss; only ratios count.

        Raises:
            BagError: If the bags differ in kind, contain NaN or infinity, or have only one label; if a
                label is missing, or labels are text and numbers; if a weight is not a number of at least 0.
            FoldError: If the training side of an inner fold has one label only.
            ConfigError: If a parameter has no such value, or the arm is not for bags in memory.
        """
        study, bags = study_of(self.get_params()), as_bags(bags)
        self._columns = columns_of(next(iter(bags), None))
        known = as_labels(labels)
        self._patches: PatchConfig = study.patches
        self._keep_classes(
            known_classes(
                known,
                n_bags=len(bags),
                positive=self.positive,
                negative=self.negative,
                ordinal=self.ordinal,
            )
        )
        index = self._known.positions(known)
        cases = cases_of(groups, n_bags=len(bags))
        weights = weights_of(sample_weight, n_bags=len(bags))
        named = zip(bags, index, cases, weights, strict=True)
        made = [
            replace(self._bag(array, i, label, case), weight=weight)
            for i, (array, label, case, weight) in enumerate(named)
        ]
        check_not_padded(bags, made)
        check_same_instances(made)
        self._keep_features(made[0])
        trained = train(
            made,
            study=study,
            arm_name=self.arm,
            task=self._known.task,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            device=find_device(self.device, precision=study.training.precision),
            start=self._start(made[0]),
        )
        first, *others = trained.members
        self.network_: BagClassifier = first.model
        self.hard_negatives_: tuple[HardInstance, ...] = first.pool
        self.n_false_positive_bags_: int = first.n_false_positive_bags
        self.arm_, self.choices_ = trained.name, trained.choices
        self._others: tuple[BagClassifier, ...] = tuple(one.model for one in others)
        self._card = card_of(trained, made, parameters=self.get_params(), classes=self._known.names)
        self.threshold_ = self._card.threshold
        return self

    @classmethod
    def from_bundle(cls, folder: Path, *, device: str = "auto") -> "MILClassifier":
        """The classifier in a bundle of features, with its threshold and calibration.

        `predict` uses the threshold of the bundle, `predict_proba` its calibration, so a probability above
        0.5 need not be called positive. With `warm_start=True`, `fit` begins with its network.

        Args:
            folder: A bundle that `hardmil train` or `to_bundle` wrote.
            device: auto, cpu, cuda or mps.

        Raises:
            BundleError: If it is not complete, of another version, or was trained on pixels.
        """
        bundle = load_bundle(folder, device=device)
        check_features(bundle.card, folder=folder)
        model = cls(**parameters_of(bundle), device=device)
        model._keep_classes(classes_of_bundle(bundle.card))
        model.network_, model._others, model._card = bundle.network, bundle.others, bundle.card
        model.threshold_ = bundle.card.threshold
        model.hard_negatives_, model.n_false_positive_bags_ = (), bundle.card.n_false_positive_bags
        model.n_features_in_ = int(bundle.network.instance_shape[0])
        model._columns, model._patches = None, PatchConfig()
        return model

    def to_bundle(self, folder: Path) -> Card:
        """Write a bundle that `hardmil predict --features` reads; its card.

        Labels become text, and slides are named by their position in training.

        Raises:
            BundleError: If instances are pixels.
            StoreError: If the disk is full, or the folder is not writable.
        """
        check_is_fitted(self, "network_")
        check_features(self._card, folder=folder)
        bundle = Bundle(self.network_, self._card, folder, self._others)
        return save_bundle(folder, bundle, tables={HARD_NEGATIVES: self.hard_negatives_})

    def predict_proba(self, bags: Bags) -> Float[np.ndarray, "bag class"]:
        """Probability of each class, in the order of `classes_`; of having it, if bags may have several.

        Raises:
            BagError: If a bag does not have the shape that was trained on.
        """
        scores = self._scores(bags)
        return self._known.probabilities(scores, card=self._card)

    @available_if(_has_decision_function)
    def decision_function(self, bags: Bags) -> Float[np.ndarray, "bag class"]:
        """The logarithm of the score of each class; only for more than two exclusive labels.

        Raises:
            BagError: If a bag does not have the shape that was trained on.
        """
        return self._known.logarithms(self._scores(bags))

    def predict(self, bags: Bags) -> Shaped[np.ndarray, " bag *label"]:
        """The label of each bag: the positive one where its score is above `threshold_`.

        Of more than two labels, the one with the highest score; of ordered ones, the highest that, with those
        above it, has a score above 0.5. If bags may have several: an array [bag, label], 1 where the score is
        above 0.5, otherwise 0.
        """
        scores = self._scores(bags)
        return self._known.predicted(scores, threshold=self.threshold_)

    def attention(self, bags: Bags, *, label: Hashable | None = None) -> list[Float[np.ndarray, " _"]]:
        """Attention of the instances of each bag; sums to 1 over a bag.

        Args:
            bags: The bags.
            label: Of more than two labels, the one whose attention is wanted; None: the predicted one.

        Raises:
            BagError: If there is no attention for this label.
        """
        scores = self._scores(bags)
        if label is None:
            return [score.attention for score in scores]
        names = self._known.task.branch_names
        if str(label) not in names or self._known.task.is_binary:
            known = ", ".join(filter(None, names)) or "None"
            raise BagError(f"label: {label!r}; expected one of those with attention of their own: {known}")
        return [score.branches[names.index(str(label))].attention for score in scores]

    @_bags_by_position()
    def _scores(self, bags: Bags) -> list[BagScore]:
        check_is_fitted(self, "network_")
        bags = as_bags(bags)
        made = [self._bag(array, i, -1, str(i)) for i, array in enumerate(bags)]
        check_not_padded(bags, made)
        for bag in made:
            check_shape(bag, expected=self.network_.instance_shape)
        return score_together([self.network_, *self._others], made)

    def _start(self, first: Bag) -> BagClassifier | None:
        """The network that training begins with; None: a new one.

        Raises:
            BagError: If the bags do not have the shape of its training.
        """
        if not self.warm_start or not hasattr(self, "network_"):
            return None
        check_shape(first, expected=self.network_.instance_shape)
        if self.network_.config.task != self._known.task:
            raise BagError(
                f"warm_start: the network tells apart {self._card.classes}; expected the same labels in the "
                f"same order, {self._known.names}; fit a new classifier, or correct the labels"
            )
        return self.network_

    def _keep_classes(self, known: KnownClasses) -> None:
        """Set `classes_` and, of two labels, `positive_`."""
        self._known, self.classes_ = known, known.labels
        self.__dict__.pop("positive_", None)
        if known.task.is_binary:
            self.positive_ = known.positive

    def _keep_features(self, first: Bag) -> None:
        """Set `n_features_in_`, and `feature_names_in_` where the bags are tables with names."""
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        if first.kind == "features":
            self.n_features_in_ = first.instances.shape[1]
        if self._columns is not None and all(isinstance(name, str) for name in self._columns):
            self.feature_names_in_ = np.array(self._columns, dtype=object)

    def __sklearn_tags__(self) -> "Tags":
        """What scikit-learn may expect of it: bags instead of a table."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def _bag(self, given: object, position: int, label: int, case: str) -> Bag:
        if columns_of(given) != self._columns:
            raise BagError(
                f"bag {position}: its columns are {columns_of(given)}; expected {self._columns}, as in the "
                "first bag of training; give all bags the same columns in the same order"
            )
        instances = as_instances(given, position=position)
        coords = np.zeros((len(instances), 2), dtype=np.int64)
        return equalised(Bag(str(position), case, label, instances, coords, 0), config=self._patches)
