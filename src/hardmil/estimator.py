"""MILClassifier: a scikit-learn estimator on bags in memory."""

import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Number

import numpy as np
from jaxtyping import Float, Float32, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from hardmil.bags.bag import Bag
from hardmil.bags.collection import check_same_instances
from hardmil.bags.slide_table import the_negative
from hardmil.config.model import resolve_config
from hardmil.config.patches import PatchConfig
from hardmil.config.study import StudyConfig, model_config
from hardmil.config.study_file import parse_study
from hardmil.device import find_device
from hardmil.errors import BagError, EmptyBagError, HardmilError
from hardmil.mil.inference import BagScore, bag_scores, score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import fit
from hardmil.mining.hard_instances import HardInstance
from hardmil.mining.procedure import train_and_mine
from hardmil.preprocessing.instances import equalised

# What a bag may be is checked in `_as_instances`, for better words than those of an annotation.
Bags = Sequence[object] | Shaped[np.ndarray, "bag ..."]
_EXPECTED = (
    "real numbers (n, dim), or pixels, uint8 (n, height, width, 3); convert it: toarray() of a sparse "
    "matrix, detach().float().numpy() of a tensor"
)
Labels = Sequence[Hashable] | Shaped[np.ndarray, " bag"]


@contextmanager
def _bags_by_position() -> Iterator[None]:
    """Errors call a bag by its position, where the library says slide."""
    try:
        yield
    except HardmilError as error:
        raise type(error)(re.sub(r"\bslide (\d+)\b", r"bag \1", str(error))) from error


class MILClassifier(ClassifierMixin, BaseEstimator):
    """Attention-MIL classifier of bags, which can mine hard negatives while it is fitted.

    A bag is an array (n, dim) of embeddings, or (n, height, width, 3) uint8 of pixels; training defaults
    depend on which. Every parameter is the setting of that name in a study, where its unit, default and
    source are given; None takes that default.

    Args:
        pooling: adaptive-attention (Li et al. 2019), attention or gated-attention (Ilse et al. 2018),
            linear-attention, conjunctive, mean, max, topk, noisy-and or quantile.
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
        epochs: Number of epochs.
        lr: Learning rate of Adam.
        weight_decay: L2 penalty in Adam.
        bags_per_step: Bags in one gradient step.
        balance: none, loss or sampler, for unequal classes.
        max_instances: Largest bag in a training step.
        positive: The positive label. None: the other one, where a label is a usual word for negative, such as
            normal or 0; otherwise the second in sorted order.
        equalise: none, channel, luminance or image: histogram equalisation of pixels.
        device: auto, cpu, cuda or mps.
        random_state: Seed of weights, draws and folds; None for a random one.

    Attributes:
        classes_: The two labels, sorted.
        positive_: The positive one.
        hard_negatives_: The mined instances; `slide_id` is the position of the bag, as text.
        n_false_positive_bags_: Number of bags they are from.
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
        epochs: int | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        bags_per_step: int = 1,
        balance: str = "none",
        max_instances: int = 10_000,
        positive: Hashable | None = None,
        equalise: str = "none",
        device: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
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
        self.epochs = epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.bags_per_step = bags_per_step
        self.balance = balance
        self.max_instances = max_instances
        self.positive = positive
        self.equalise = equalise
        self.device = device
        self.random_state = random_state

    @_bags_by_position()
    def fit(
        self,
        bags: Bags,
        labels: Labels,
        *,
        groups: Labels | None = None,
    ) -> "MILClassifier":
        """Train on the bags; mine and train again unless `mining` is none.

        Args:
            bags: One array for each bag, all of one kind.
            labels: One for each bag, of any two values of one type; None and NaN are not labels.
            groups: The case of each bag, which inner folds never split. None: each bag is a case.

        Raises:
            BagError: If the bags differ in kind, contain NaN or infinity, or do not have two labels; if a
                label is missing, or labels are text and numbers.
            FoldError: If the training side of an inner fold has one label only.
            ConfigError: If a parameter has no such value.
        """
        study = self._study()
        self._columns = _columns_of(next(iter(bags), None))
        self.classes_ = _two_classes(labels, n_bags=len(bags))
        self._patches: PatchConfig = study.patches
        self.positive_ = _positive(self.classes_, wanted=self.positive)
        index = [int(label == self.positive_) for label in labels]
        cases = range(len(bags)) if groups is None else groups
        if len(cases) != len(bags):
            raise BagError(f"{len(cases)} groups for {len(bags)} bags; expected one for each bag")
        for position, case in enumerate(cases):
            if _is_missing(case):
                raise BagError(
                    f"bag {position}: its group is {case!r}; expected its case; name it, or leave the bag out"
                )
        named = zip(bags, index, cases, strict=True)
        made = [self._bag(array, i, label, str(case)) for i, (array, label, case) in enumerate(named)]
        _check_not_padded(bags, made)
        check_same_instances(made)
        device = find_device(self.device, precision=study.training.precision)
        mined = train_and_mine(
            made,
            config=resolve_config(model_config(study), kind=made[0].kind),
            mining=study.mining,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            train=partial(fit, device=device),
        )
        self.network_: BagClassifier = mined.model
        self.hard_negatives_: tuple[HardInstance, ...] = mined.pool
        self.n_false_positive_bags_: int = mined.n_false_positive_bags
        return self

    def predict_proba(self, bags: Bags) -> Float[np.ndarray, "bag 2"]:
        """Probability of each class, in the order of `classes_`.

        Raises:
            BagError: If a bag does not have the shape that was trained on.
        """
        scores = bag_scores(self._scores(bags))
        columns = [1 - scores, scores] if self.positive_ == self.classes_[1] else [scores, 1 - scores]
        return np.stack(columns, axis=1)

    def predict(self, bags: Bags) -> Shaped[np.ndarray, " bag"]:
        """The label of each bag: the positive one where its probability is above 0.5."""
        is_positive = bag_scores(self._scores(bags)) > 0.5
        is_second = is_positive == (self.positive_ == self.classes_[1])
        return self.classes_[is_second.astype(int)]

    def attention(self, bags: Bags) -> list[Float[np.ndarray, " _"]]:
        """Attention of the instances of each bag; sums to 1 over a bag."""
        return [score.attention for score in self._scores(bags)]

    @_bags_by_position()
    def _scores(self, bags: Bags) -> list[BagScore]:
        check_is_fitted(self, "network_")
        made = [self._bag(array, i, -1, str(i)) for i, array in enumerate(bags)]
        _check_not_padded(bags, made)
        for bag in made:
            if bag.instances.shape[1:] != self.network_.instance_shape:
                raise BagError(
                    f"bag {bag.slide_id}: instances of shape {bag.instances.shape[1:]}; expected "
                    f"{self.network_.instance_shape}, as in training; make it in the same way"
                )
        return score_bags(self.network_, made)

    def _bag(self, given: object, position: int, label: int, case: str) -> Bag:
        if _columns_of(given) != self._columns:
            raise BagError(
                f"bag {position}: its columns are {_columns_of(given)}; expected {self._columns}, as in the "
                "first bag of training; give all bags the same columns in the same order"
            )
        instances = _as_instances(given, position=position)
        coords = np.zeros((len(instances), 2), dtype=np.int64)
        return equalised(Bag(str(position), case, label, instances, coords, 0), config=self._patches)

    def _study(self) -> StudyConfig:
        training = ("epochs", "lr", "weight_decay", "bags_per_step", "balance", "max_instances")
        mining = ("cluster_weights", "n_clusters", "inner_folds", "rounds", "retrain", "inject_into")
        content = {
            "patches": {"equalise": self.equalise},
            "pooling": {"kind": self.pooling, "lam": self.lam},
            "training": {name: getattr(self, name) for name in training},
            "instance_loss": {"beta": self.instance_loss},
            "mining": {
                "use": self.mining,
                "source": self.mining_source,
                **{name: getattr(self, name) for name in mining},
            },
        }
        return parse_study(content, source="MILClassifier")


def _as_instances(given: object, *, position: int) -> Shaped[np.ndarray, "instance ..."]:
    """The instances of a bag as an array: pixels as they are, numbers as float32.

    Raises:
        BagError: If they cannot be an array, or are masked, complex, or not to be told apart in float32.
        EmptyBagError: If there are none.
    """
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise BagError(f"bag {position}: is not an array ({error}); expected {_EXPECTED}") from error
    if array.ndim < 2 or array.dtype.kind not in "biuf" or isinstance(given, np.ma.MaskedArray):
        found = f"{type(given).__name__}, {array.dtype} {array.shape}"
        raise BagError(f"bag {position}: its instances are {found}; expected {_EXPECTED}")
    if len(array) == 0:
        raise EmptyBagError(f"bag {position}: no instances; expected at least one; leave the bag out")
    if array.ndim == 4 and array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):
        # A value too large for float32 becomes infinite, which `Bag` refuses.
        single = array.astype(np.float32, copy=False)
    if array.dtype.itemsize > single.dtype.itemsize:
        _check_kept(array, single, position=position)
    return single


def _check_kept(
    array: Shaped[np.ndarray, "instance ..."], single: Float32[np.ndarray, "instance ..."], *, position: int
) -> None:
    """Check that a feature that differs between instances does so in float32 too."""
    varies = array.min(axis=0) < array.max(axis=0)
    lost = np.flatnonzero((varies & (single.min(axis=0) == single.max(axis=0))).ravel())
    if len(lost):
        raise BagError(
            f"bag {position}: feature {lost[0]} differs between instances by less than float32 can hold; "
            "expected features near 0; subtract the mean of the training bags from all bags"
        )


def _columns_of(given: object) -> list[object] | None:
    """The names of the columns of a table such as a DataFrame; None for an array."""
    columns = getattr(given, "columns", None)
    return None if columns is None else list(columns)


def _check_not_padded(bags: Bags, made: Sequence[Bag]) -> None:
    """Check that bags in one array, of one size, are not padded with zeros to this size."""
    for bag in made if getattr(bags, "ndim", 1) > 2 else ():
        is_zero = (bag.instances.reshape(len(bag), -1) == 0).all(axis=1)
        if is_zero[-1]:
            n = len(bag) if is_zero.all() else int(np.argmin(is_zero[::-1]))
            raise BagError(
                f"bag {bag.slide_id}: the last {n} of its {len(bag)} instances are all 0, as in padded bags; "
                "expected its own instances alone; give a list of arrays of different lengths"
            )


def _positive(classes: Shaped[np.ndarray, "2"], *, wanted: Hashable | None) -> Hashable:
    if wanted is None:
        negative = the_negative([str(one) for one in classes])
        return next(one for one in classes[::-1] if str(one) != negative)
    if wanted not in classes.tolist():
        raise BagError(f"positive: {wanted!r}; expected one of the labels, {classes.tolist()}")
    return wanted


def _two_classes(labels: Labels, *, n_bags: int) -> Shaped[np.ndarray, "2"]:
    if len(labels) != n_bags:
        raise BagError(f"{len(labels)} labels for {n_bags} bags; expected one for each bag")
    first: dict[str, Hashable] = {}
    for position, label in enumerate(labels):
        _check_label(label, position=position)
        first.setdefault(_type_of(label), label)
    if len(first) > 1:
        raise BagError(
            f"labels of different types: {' and '.join(map(repr, first.values()))}; expected text or "
            "numbers; convert all to one type"
        )
    classes = np.unique(np.asarray(labels))
    if len(classes) == 1:
        raise BagError(
            f"all {n_bags} bags are labelled {classes[0]!s}; expected two labels; add bags of the other"
        )
    if len(classes) != 2:
        raise BagError(f"labels of {len(classes)} values ({classes[:5].tolist()}); expected two")
    one, other = (" ".join(str(label).casefold().split()) for label in classes)
    if one == other:
        raise BagError(
            f"the labels {classes.tolist()} differ in upper and lower case or spaces only; expected two "
            "labels, each in one spelling; correct one of them"
        )
    return classes


def _check_label(label: object, *, position: int) -> None:
    if np.asarray(label).ndim > 0:
        is_one = np.size(np.asarray(label)) == 1
        advice = "labels.ravel()" if is_one else "numpy.argmax(labels, axis=1) if labels are one-hot"
        raise BagError(f"bag {position}: its label is {label!r}; expected one value; give {advice}")
    if _is_missing(label):
        raise BagError(
            f"bag {position}: its label is {label!r}; expected a value; leave out bags without a label"
        )


def _is_missing(value: object) -> bool:
    """Whether a label or a case is None, NaN or NaT, which differ from themselves, or pandas.NA."""
    return value is None or str(value) == "<NA>" or bool(value != value)


def _type_of(label: object) -> str:
    """Text, or number for numbers and booleans; otherwise the name of the type."""
    if isinstance(label, str):
        return "text"
    return "number" if isinstance(label, bool | np.bool_ | Number) else type(label).__name__
